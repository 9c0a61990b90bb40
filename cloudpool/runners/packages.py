"""Installed packages on their way to hosts that lack them: what an import there does not find, the root's Python may have.

    far process --wanted (a letter)--> fleet --find, pack--> server --> files of that host, on its sys.path

By distribution, from its RECORD; what is no distribution's (an editable install) by its folder. Only what is asked for
travels, once a session and once a host: who asks importlib.metadata for a distribution gets no more than what that reads.
"""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import re
import sysconfig
import zipfile
from functools import cache
from importlib import metadata

MOST_BYTES = 512 << 20  # of one distribution, unpacked
_BINARY = (".so", ".pyd", ".dylib")


def this_platform() -> str:
    """What compiled files must agree with: machine, C library, Python."""
    return " ".join(
        (sysconfig.get_platform(), *platform.libc_ver()[:1], sysconfig.get_config_var("SOABI") or "")
    )


class TooLargeError(Exception):
    """The argument says what, and what to do."""


def pack(module: str, far_platform: str) -> bytes | None:
    """A zip file with what must be on sys.path for `import module`; None when this Python has no such module.

    Raises TooLargeError, and ImportError when its files are of no use over there.
    """
    found = _distribution_files(module) or _folder_files(module)
    if not found:
        return None
    if far_platform != this_platform() and any(name.endswith(_BINARY) for name in found):
        raise ImportError(
            f"{module} is not installed on this host, and the root's has compiled files for another platform\n"
            f"({this_platform()} there, {far_platform} here). Build an image with it: python -m cloudpool image."
        )
    size = sum(os.path.getsize(path) for path in found.values())
    if size > MOST_BYTES:
        raise TooLargeError(
            f"{module} is not installed on this host, and has {size >> 20} MiB at the root: {MOST_BYTES >> 20} MiB at most are\n"
            "sent to hosts that lack a package. Build an image with it: python -m cloudpool image."
        )
    content = io.BytesIO()
    with zipfile.ZipFile(
        content, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
    ) as archive:
        for name, path in sorted(found.items()):
            archive.write(path, name)
    return content.getvalue()


def pack_metadata(distribution: str) -> bytes | None:
    """A zip file with what importlib.metadata is to find of it; None when this Python has no such distribution."""
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return None
    about = found.read_text("METADATA") or found.read_text("PKG-INFO") or found.read_text("") or ""
    if found.requires and "\nRequires-Dist:" not in about:  # an old kind has them elsewhere
        head, end, text = about.partition("\n\n")
        about = "".join((head.rstrip(), *(f"\nRequires-Dist: {name}" for name in found.requires), end, text))
    folder = f"{re.sub('[-_.]+', '_', distribution)}-{found.version}.dist-info"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/METADATA", about)
        for name in ("entry_points.txt", "top_level.txt"):
            if said := found.read_text(name):
                archive.writestr(f"{folder}/{name}", said)
    return content.getvalue()


@cache
def _providers() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _distribution_files(module: str) -> dict[str, str]:
    """The files of the distributions that provide it: where they belong, where they are."""
    found = {}
    for name in set(_providers().get(module, ())):
        files = metadata.distribution(name).files or []
        for file in files:
            path = str(file.locate())
            inside = str(file)
            if not inside.startswith("..") and not inside.endswith(".pyc") and os.path.isfile(path):
                found[inside] = path
    # An editable install's RECORD has no more than what points to it.
    return found if any(name.split("/")[0].split(".")[0] == module for name in found) else {}


def _folder_files(module: str) -> dict[str, str]:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return {}
    if spec is None or (not spec.has_location and not spec.submodule_search_locations):
        return {}
    if not spec.submodule_search_locations:
        assert spec.origin is not None
        return {os.path.basename(spec.origin): spec.origin}
    found = {}
    for top in spec.submodule_search_locations:
        for folder, inner, names in os.walk(top):
            inner[:] = [name for name in inner if name != "__pycache__" and not name.startswith(".")]
            for name in names:
                path = os.path.join(folder, name)
                if not name.endswith(".pyc"):
                    found[os.path.join(module, os.path.relpath(path, top))] = path
    return found
