"""Results back to storage: a file that appears whole or not at all, under a name that the partition fixes."""

from __future__ import annotations

import codecs
import io
import sys
import warnings
import weakref
from typing import Any, Self

from cloudpool.chunking.stores import Writer, locate


class Output(io.RawIOBase):
    """A file to write to. It appears when its `with` block ends well, or by commit(); else nothing is left of it.

    Not when it is closed: what is put around it, such as an io.TextIOWrapper, closes it after an exception too. Owned by the
    task that made it. `url` is what it will be called.
    """

    def __init__(self, writer: Writer, url: str, encoding: str | None = None) -> None:
        self._writer: Writer | None = writer
        self._encode = codecs.getincrementalencoder(encoding)().encode if encoding else None
        self._within = False  # its `with` block, whose end decides
        self._ended = False  # closed within it
        self.url = url
        # Neither closed nor left by an exception: what was written is no result.
        self._lost = weakref.finalize(self, writer.discard)
        self._lost.atexit = True

    @classmethod
    def of(cls, index: int, url: str, suffix: str, place: dict[str, Any]) -> Output:
        """The output of partition `index` under the prefix `url`."""
        if unknown := set(place) - {"endpoint_url", "anonymous", "storage_options", "encoding"}:
            raise TypeError(f"output() takes no {', '.join(sorted(unknown))}")
        place = {"options": place.pop("storage_options", None), **place}
        encoding = place.pop("encoding", None)
        if encoding is not None:
            codecs.lookup(encoding)
        name = f"part-{index:05d}{suffix}"
        location = locate(url if str(url).endswith("/") else f"{url}/", **place)
        key = location.key + name
        return cls(location.store.writer(key), location.store.url(key), encoding)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        """Bytes, as of any binary file; with an encoding text too."""
        if self._writer is None or self._ended:
            raise ValueError("write to closed file")
        if isinstance(data, str):
            if self._encode is None:
                raise TypeError("an output takes bytes: output(..., encoding='utf-8') takes text")
            self._writer.write(self._encode(data))
            return len(data)
        return self._writer.write(data)

    def commit(self) -> None:
        """Have it appear."""
        writer = self._taken()
        if writer is None:
            raise ValueError(f"{self.url} has been committed or discarded already")
        try:
            writer.close()
        except BaseException:
            writer.discard()
            raise
        super().close()

    def discard(self) -> None:
        """Leave nothing."""
        writer = self._taken()
        if writer is not None:
            writer.discard()
        super().close()

    def close(self) -> None:
        """End writing. Outside of its `with` block that discards what has not been committed."""
        if self._within:
            self._ended = True
            return
        if self._writer is not None and sys.exc_info()[0] is None:
            warnings.warn(
                f"{self.url} was closed without commit(), so it is not there: use `with part.output(...) as file`",
                RuntimeWarning,
                stacklevel=2,
            )
        self.discard()

    def _taken(self) -> Writer | None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._lost.detach()
        return writer

    def __enter__(self) -> Self:
        super().__enter__()
        self._within = True
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._within = False
        if kind is not None:
            self.discard()
        elif self._writer is not None:  # not committed, nor discarded, in the block
            self.commit()

    def __del__(self) -> None:
        """Not close(), which a file's own would call: a file that nobody closed is not finished."""

    def __repr__(self) -> str:
        return f"<output {self.url}>"
