"""Which encodings text may be cut in: those in which a line feed is the byte 10 and nothing else is."""

from __future__ import annotations

import codecs

from cloudpool.errors import FormatError

_ASCII = bytes(range(128))
_SHIFTING = (
    "utf_7",
    "hz",
    "iso2022",
    "utf_16",
    "utf_32",
)  # a byte below 128 may be part of another character


def checked(encoding: str) -> str:
    """The encoding. Raises LookupError when Python does not know it, ValueError when it is no superset of ASCII."""
    name = codecs.lookup(encoding).name.replace("-", "_")
    if name.startswith(_SHIFTING) or _ASCII.decode(name, "replace") != _ASCII.decode("ascii"):
        raise ValueError(
            f"encoding {encoding} is no superset of ASCII: a line feed may be part of another character, so text cannot be "
            f'cut; convert it to UTF-8, or read it whole with format="bytes"'
        )
    return encoding


def undecodable(where: str, error: UnicodeDecodeError) -> FormatError:
    """What to raise for it."""
    found = bytes(error.object[error.start : error.start + 20])
    return FormatError(
        f"{where} is not {error.encoding}: {error.reason}, at {found!r}: say what it is by encoding="
    )


def of_piece(encoding: str, first: bool) -> str:
    """utf-8-sig takes a mark off the start of the object, not off a record in its middle."""
    return encoding if first or codecs.lookup(encoding).name != "utf-8-sig" else "utf-8"


def alone(encoding: str, text: str) -> bool:
    """Whether the bytes of this ASCII text are never part of another character: in Shift_JIS, say, | is."""
    return (
        codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
        or len(bytes(range(256)).decode(encoding, "replace")) == 256  # a byte is a character
        or all(letter < "0" for letter in text)
    )
