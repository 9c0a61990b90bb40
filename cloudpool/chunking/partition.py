"""partition(): data into pieces of the right size for one task each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cloudpool.chunking.formats import Format, did_you_mean
from cloudpool.chunking.parts import Partitions
from cloudpool.chunking.planning import Request, plan
from cloudpool.chunking.sequences import Pieces, pieces_of
from cloudpool.chunking.sizes import at_least_one, size_bytes


def partition(
    source: Any,
    *,
    format: str | Format | None = None,
    chunk_size: int | str | None = None,
    chunks: int | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    pack: bool = False,
    index: bool = False,
    endpoint_url: str | None = None,
    anonymous: bool = False,
    storage_options: dict[str, Any] | None = None,
    **format_options: Any,
) -> Partitions | Pieces:
    """Cut what `source` means into partitions, a sequence that is cheap to make and to send: `pool.map(f, partition(...))`.

    `source` is a URL (an object, a prefix, a glob, a bucket), a path, or a list of such; or any sequence, an array, a data
    frame, of which `chunk_size` counts items. Pieces have `chunk_size` bytes ("64 MiB"), or there are `chunks` of them; with
    neither, 64 MiB where a format can be cut unread, else an object each. No record is lost, doubled or cut.

    `include` and `exclude` are globs on the key. `pack` puts small objects together. `index` reads compressed objects once, to
    find where they can be cut. Raises ValueError for arguments that make no sense, FileNotFoundError when there is no object,
    PermissionError, FormatError, MissingExtraError.
    """
    urls = _urls(source)
    if urls is None:
        given = format or include or exclude or pack or index or endpoint_url or anonymous or storage_options
        if given or format_options:
            raise TypeError(
                f"a {type(source).__name__} is cut by chunk_size or chunks; the rest is for objects in storage"
                f"{did_you_mean(format_options, ('chunk_size', 'chunks'))}"
            )
        return pieces_of(source, chunks, chunk_size)
    if chunk_size is not None and chunks is not None:
        raise TypeError("partition() takes chunk_size or chunks, not both")
    request = Request(
        format=format,
        compression=format_options.pop("compression", None),
        index=index,
        chunk_bytes=None if chunk_size is None else size_bytes("chunk_size", chunk_size),
        chunks=None if chunks is None else at_least_one("chunks", chunks),
        include=_globs(include),
        exclude=_globs(exclude),
        pack=pack,
        place={"endpoint_url": endpoint_url, "anonymous": anonymous, "options": storage_options},
        options=format_options,
    )
    return Partitions(plan(urls, request))


def _urls(source: Any) -> list[str | os.PathLike[str]] | None:
    """The URLs that `source` is, or None: then it is data."""
    if isinstance(source, str | os.PathLike):
        source = [source]
    elif not isinstance(source, list | tuple) or not all(
        isinstance(item, str | os.PathLike) for item in source
    ):
        return None
    if not all(map(os.fspath, source)):
        raise ValueError("partition() needs a URL or a path, not an empty text")
    return list(source)


def _globs(globs: str | Sequence[str] | None) -> tuple[str, ...]:
    if globs is None:
        return ()
    return (globs,) if isinstance(globs, str) else tuple(globs)
