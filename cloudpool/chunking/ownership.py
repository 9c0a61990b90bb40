"""Which bytes are a piece's own: from the first record that begins after its start to the end of the record at its end.

Both readers at a cut ask the format the same question of the same bytes: "these follow the cut: where does the first
record begin?" One begins there and the other ends there, so no record is lost, doubled or cut, whatever the answer is.

    start                         stop
      |                             |
      xxxx\nrecord\nrecord\n...\nreco|rd\nrecord\n
           ^ boundary after start        ^ boundary after stop
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Boundary = Callable[[bytearray, bool], int | None]
"""boundary(data, at_end): where the first record begins in `data`, which follows a cut; None: more is needed. `at_end`: there is
no more, and len(data) means that no record begins."""


def owned(
    own: Iterator[memoryview],
    beyond: Iterator[memoryview],
    boundary: Boundary,
    first: bool,
    keep: int | None = None,
) -> Iterator[memoryview]:
    """The piece's records as bytes.

    `own` are the bytes between the piece's start and stop, `beyond` those from there to the object's end. Of what
    `beyond` gives, no more is taken than is needed. `first`: the piece begins where the object does. `keep`: where the
    boundary is None, it is behind all but so many of the last bytes, which are all that is held then; None: nobody knows, and
    the rest of the record at each cut is held.
    """
    if first:
        yield from own
        yield from _until(bytearray(), beyond, boundary, keep)
        return
    data = bytearray()
    asked = 0
    for buffer in own:
        data += buffer
        # Asked again only when there is twice as much: a record longer than the piece is not searched over and over.
        if len(data) >= 2 * asked:
            asked = len(data)
            begin = boundary(data, False)
            if begin is not None:
                yield memoryview(bytes(data[begin:]))
                yield from own
                yield from _until(bytearray(), beyond, boundary, keep)
                return
            if keep is not None:
                del data[: max(0, len(data) - keep)]
                asked = 0
    # A record goes on up to the stop, or beyond it, or to a boundary that is not seen without what is there.
    length = len(data)
    if keep is None:
        begin = _look(data, asked, beyond, boundary)
    else:
        while len(data) < length + keep and (more := next(beyond, None)) is not None:
            data += more
        found = boundary(data, False) if data else None
        if found is None:
            return  # the next boundary is that of the stop as well
        begin = found
    skip = max(begin - length, 0)
    if begin < length:
        yield memoryview(bytes(data[begin:length]))
    for part in _until(data[length:], beyond, boundary, keep):
        yield part[skip:]
        skip = max(0, skip - len(part))


def _until(
    data: bytearray, beyond: Iterator[memoryview], boundary: Boundary, keep: int | None
) -> Iterator[memoryview]:
    """What lies before the boundary after the stop, which `data` and `beyond` follow."""
    if keep is None:
        end = _look(data, 0, beyond, boundary)
        yield memoryview(bytes(data[:end]))
        return
    while (found := boundary(data, False) if data else None) is None:
        if len(data) > keep:
            yield memoryview(bytes(data[: len(data) - keep]))
            del data[: len(data) - keep]
        more = next(beyond, None)
        if more is None:
            found = boundary(data, True)
            assert found is not None, "a format must know at the end"
            break
        data += more
    yield memoryview(bytes(data[:found]))


def _look(data: bytearray, asked: int, beyond: Iterator[memoryview], boundary: Boundary) -> int:
    """The boundary after the cut that `data` follows, which grows as needed; nothing of its first `asked` bytes is one."""
    while True:
        found = None
        if len(data) > asked and len(data) >= 2 * asked:
            asked = len(data)
            found = boundary(data, False)
        if found is None:
            more = next(beyond, None)
            if more is not None:
                data += more
                continue
            found = boundary(data, True)
            assert found is not None, "a format must know at the end"
        return found
