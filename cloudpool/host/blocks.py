"""Shared memory across hosts: what processes of one host write, those of others see, once they have synchronized.

    segment   the file that this host's processes have mapped: memory as ever
    twin      what this host knew the block to be when it last looked
    log       a stream in the server: (block, offset, bytes), in one order for all hosts

A sync is one critical section a host: read all segments, append what differs from the twins, then apply what others have
appended. It comes before whatever another process may wait for is said (release), and after whatever was waited for has
come (acquire); and now and then, for those who only look. Byte for byte, so that two hosts that write side by side on a
page both win; of a byte that two write without a lock, one of the values.

A block is spread from the moment that a second host asks the first for it. Until then nothing of this is done.
"""

from __future__ import annotations

import marshal
import math
import mmap
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudpool.host import folder as folders, parcels
from cloudpool.host.parcels import Carrier
from cloudpool.store.wire import ReplyError

if TYPE_CHECKING:
    from cloudpool.host.line import Line
    from cloudpool.sealing import Sealer

LOOK_S = 0.05  # between looks for the sake of those who wait by reading
SHARE = 0.05  # of a core, at most, for those looks
PAGE = 4096
MOST_UNSAID = 256  # entries that are taken over until that is told: the log is kept for the slowest host
MOST_UNSAID_BYTES = 16 << 20  # of them, likewise
MOST_UNSAID_S = 1.0  # likewise, by those who look
ALL = b"0"  # before the first entry
_CHANGED = re.compile(rb"[^\0]+")


class Segment:
    """A block's memory on this host."""

    def __init__(self, path: str, after: bytes) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.memory = mmap.mmap(fd, 0)
        finally:
            os.close(fd)
        self.twin = bytearray(self.memory)
        self.after = after  # entries up to this one are in it already

    def changed(self) -> list[tuple[int, bytes]]:
        """What differs from the twin, byte for byte, now taken into the twin."""
        now = bytes(self.memory)
        twin = self.twin
        if now == twin:
            return []
        found = []
        for start in range(0, len(now), PAGE):
            page, old = now[start : start + PAGE], twin[start : start + PAGE]
            if page == old:
                continue
            length = len(page)
            differing = (int.from_bytes(page) ^ int.from_bytes(old)).to_bytes(length)
            found += [(start + m.start(), page[m.start() : m.end()]) for m in _CHANGED.finditer(differing)]
            twin[start : start + length] = page
        return found

    def apply(self, offset: int, data: bytes, own: list[tuple[int, bytes]]) -> None:
        """What another host has written, but for bytes that this one has written since."""
        for start, piece in _without(offset, data, own):
            end = start + len(piece)
            if self.twin[start:end] != piece:
                self.twin[start:end] = piece
                self.memory[start:end] = piece


def _without(offset: int, data: bytes, own: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The parts of a piece that none of `own`, which are in order, covers."""
    at, end = offset, offset + len(data)
    for start, mine in own:
        if start >= end:
            break
        if start + len(mine) <= at:
            continue
        if start > at:
            yield at, data[at - offset : start - offset]
        at = max(at, start + len(mine))
    if at < end:
        yield at, data[at - offset :]


class Blocks:
    """The spread blocks of one host. Owned by its agent, for all its processes."""

    def __init__(self, folder: str, epoch: int, line: Line, sealer: Sealer | None) -> None:
        self._folder, self._epoch, self._line, self._sealer = folder, epoch, line, sealer
        self._keys, self._ttl_ms = line.keys, line.ttl_ms
        self._carrier = Carrier(line.keys, line.ttl_ms, sealer, None)  # by the server: an agent must not wait
        self._segments: dict[str, Segment] = {}
        self._after = ALL
        self._unsaid, self._unsaid_bytes, self._said_at, self._has_joined = 0, 0, -math.inf, False
        self.awaited: Collection[
            str
        ] = ()  # blocks on their way here: the log is kept from when they were asked for
        self._mine: set[bytes] = set()  # entries of this host's own
        self.next_look = math.inf
        self._log = self._keys.blocks
        self._published: dict[
            str, dict[int, tuple[int, int]]
        ] = {}  # by block and host: for which wish, the size

    def __bool__(self) -> bool:
        return bool(self._segments)

    def knows(self, block: str) -> bool:
        return block in self._segments

    def is_here(self, block: str) -> bool:
        """Spread, or known to this host alone."""
        return block in self._segments or os.path.exists(os.path.join(self._folder, block))

    # -- one critical section ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """For those who wait by reading a value again and again."""
        began = time.monotonic()
        self.next_look = began + LOOK_S  # when the server refuses it, too
        self.sync()
        if self._unsaid and began - self._said_at >= MOST_UNSAID_S and not self.awaited:
            self._say(self._after)
        now = time.monotonic()
        self.next_look = now + max(LOOK_S, (now - began) / SHARE)

    def sync(self) -> None:
        """Append what was written here, then take over what others have written."""
        if not self._segments:
            return
        own = {block: changed for block, s in self._segments.items() if (changed := s.changed())}
        commands: list[tuple[object, ...]] = []
        if own:
            data = marshal.dumps(own)
            if self._sealer is not None:
                data = self._sealer.seal(data, b"blocks log")
            commands.append(("XADD", self._log, "*", "written", data))
            if self._ttl_ms:
                commands.append(("PEXPIRE", self._log, self._ttl_ms))
        commands.append(("XRANGE", self._log, b"(" + self._after if self._after != ALL else "-", "+"))
        replies = self._line.call_many(commands)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        if own:
            self._mine.add(replies[0])
        self._take(replies[-1], own)
        is_much = self._unsaid >= MOST_UNSAID or self._unsaid_bytes >= MOST_UNSAID_BYTES
        if is_much and not self.awaited:
            self._say(self._after)

    def _say(self, after: bytes) -> None:
        """Tell up to where this host has read the log: nobody keeps it for longer than it is needed."""
        self._unsaid, self._unsaid_bytes, self._said_at = 0, 0, time.monotonic()
        self._line.call("HSET", self._keys.readers, self._epoch, after)
        if self._ttl_ms:
            self._line.call("PEXPIRE", self._keys.readers, self._ttl_ms)

    def _take(self, entries: list[Any], own: dict[str, list[tuple[int, bytes]]]) -> None:
        self._unsaid += len(entries)
        for entry, fields in entries:
            self._after = entry
            self._unsaid_bytes += len(fields[1])
            if entry in self._mine:
                self._mine.discard(entry)
                own = {}  # what comes after it came after it for all
                continue
            data = fields[1]
            if self._sealer is not None:
                data = self._sealer.open(data, b"blocks log")
            for block, pieces in marshal.loads(data).items():
                segment = self._segments.get(block)
                if segment is not None and _number(entry) > _number(segment.after):
                    for offset, piece in pieces:
                        segment.apply(offset, piece, own.get(block, []))

    def join(self) -> None:
        """Be one of those for whom the log is kept; before anything in it is counted on."""
        if not self._has_joined:
            self._say(ALL)
            self._has_joined = True

    def part(self) -> None:
        """The log is not kept for this host while it has no part in any block. Raises ReplyError."""
        if self._has_joined and not self._segments and not self.awaited:
            self.next_look = math.inf
            self._line.call("HDEL", self._keys.readers, self._epoch)
            self._has_joined = False

    # -- spreading --------------------------------------------------------------------------------------------------

    def publish_for(self, host: int, wish: int, block: str) -> int:
        """As below, once for a wish of another host's, however often it asks."""
        known = self._published.get(block, {}).get(host)
        if known is not None and known[0] == wish:
            return known[1]
        size = self.publish(block)
        if size:
            self._published.setdefault(block, {})[host] = wish, size
        return size

    def publish(self, block: str) -> int:
        """Put the block as it is now into the server, with the entry up to which it is. Its size; 0 when it is not here."""
        path = os.path.join(self._folder, block)
        if block not in self._segments:
            if not os.path.exists(path):
                return 0
            self.join()
            self._spread(block, Segment(path, ALL))
        self.sync()
        segment = self._segments[block]
        content = bytes(segment.twin)
        name = self.parcel(block)
        self._carrier.send(self._line.call_many, name, content)
        self._line.call("HSET", parcels.content(self._keys, name), "after", self._after)
        return len(content)

    def adopt(self, block: str) -> None:
        """Have the block here, as it was put into the server by a host that knows it; unless it is gone from there. Raises
        ReplyError, and OSError when there is no room for it.
        """
        if block in self._segments:
            return
        name = self.parcel(block)
        key = parcels.content(self._keys, name)
        after = self._line.call("HGET", key, "after")
        if after is None:
            return
        try:
            pieces = self._carrier.fetch(self._line.call_many, name)
        except FileNotFoundError:
            return
        path = os.path.join(self._folder, block)
        try:
            with open(path + ".new", "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(b"".join(pieces))
            segment = Segment(path + ".new", after)
            os.rename(path + ".new", path)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(path + ".new")
            raise
        if _number(self._after) > _number(after):  # what it lacks is read again; to the others it is not new
            for other in self._segments.values():
                other.after = max(other.after, self._after, key=_number)
            self._after = after
        elif not self._segments:
            self._after = after
        self._spread(block, segment)
        self.sync()

    def _spread(self, block: str, segment: Segment) -> None:
        if not self._segments:
            self._say_spread(b"\1")
            self.next_look = time.monotonic() + LOOK_S
        self._segments[block] = segment

    @staticmethod
    def parcel(block: str) -> str:
        """The blob that carries a block from host to host."""
        return f"blob.{block}"

    def forget(self, block: str) -> None:
        """It is not here any more. Raises ReplyError."""
        self._segments.pop(block, None)
        self._published.pop(block, None)
        if not self._segments:
            self._say_spread(b"\0")
        self.part()

    def _say_spread(self, whether: bytes) -> None:
        """To the processes of this host, who look at it before and after what they say to the server."""
        with open(os.path.join(self._folder, folders.SPREAD), "r+b") as file:
            file.write(whether)


def _number(entry: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry.split(b"-")))
