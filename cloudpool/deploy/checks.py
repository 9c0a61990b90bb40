"""One line of the doctor's list: a hop, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cloudpool.errors import CloudpoolError
from cloudpool.runners import manifest

CLOCKS_S = 30.0  # apart: what certificates and tokens bear


class Check(NamedTuple):
    """The end of one hop."""

    what: str
    is_ok: bool
    words: str  # what was found, or what is wrong and what helps


def tried(what: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(what, True, attempt())
    except CloudpoolError as error:
        return Check(what, False, str(error))


IMAGE_CURE = "build it anew, python -m cloudpool image"


def compared(what: str, name: str, theirs: dict[str, str], cure: str = IMAGE_CURE) -> Check:
    """Whether an image or a function has what is here."""
    ours = manifest.versions()
    differing = [
        f"{part} {theirs.get(part)} (here {own})" for part, own in ours.items() if theirs.get(part) != own
    ]
    if differing:
        return Check(what, False, f"{name} has {', '.join(differing)}: {cure}")
    return Check(what, True, f"{name}: {', '.join(f'{part} {version}' for part, version in theirs.items())}")


def clocks(begin: float, theirs: float, end: float) -> Check:
    """Theirs was told between these two of ours."""
    away_s = max(begin - theirs, theirs - end, 0.0)
    words = f"{away_s:.0f} s apart" + (": set them by NTP" if away_s >= CLOCKS_S else "")
    return Check("clocks", away_s < CLOCKS_S, words)
