"""Which hosts hold an object that more than one knows. Each host's census counts for itself; this counts hosts.

    {object}:holders    set of epochs in the server: while a host is in it, the object stays

A host enters its epoch before a handle leaves it, or when one arrives; it takes that out when its own census knows nobody
any more; whoever takes the last one out frees the object. A handle under way in a message is an entry of its own (the name of
its transit), which whoever gets it takes out: its sender's host may be gone by then. In doubt a leak, never a loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cloudpool.store.keys import PARTS, kind_of
from cloudpool.store.wire import ReplyError

if TYPE_CHECKING:
    from cloudpool.host.line import Line

Run = tuple[str, tuple[str, ...], tuple[object, ...]]  # of a script: its name, keys, arguments


class Holders:
    """One host's entries. Owned by its agent."""

    def __init__(self, epoch: int, line: Line) -> None:
        self._epoch, self._line, self._keys = epoch, line, line.keys
        self._entered: set[str] = set()

    def knows(self, object_id: str) -> bool:
        return object_id in self._entered

    def enter(self, ids: Iterable[str]) -> None:
        """This host holds them from now on, in the eyes of others. Raises ReplyError."""
        new = [i for i in dict.fromkeys(ids) if i not in self._entered and kind_of(i) in PARTS]
        if not new:
            return
        commands: list[tuple[object, ...]] = [("SADD", self._key(i), self._epoch) for i in new]
        if self._line.ttl_ms:
            commands += [("PEXPIRE", self._key(i), self._line.ttl_ms) for i in new]
        for reply in self._line.call_many(commands):
            if isinstance(reply, ReplyError):
                raise reply
        self._entered.update(new)

    def depart(self, object_id: str, transit: str) -> None:
        """A handle goes off in a message. Raises ReplyError."""
        self.enter([object_id])
        self._line.call("SADD", self._key(object_id), transit)

    def arrive(self, object_id: str, transit: str) -> None:
        """A handle has come in a message. Raises ReplyError."""
        self.enter([object_id])
        self._line.call("SREM", self._key(object_id), transit)

    def leave(self, object_id: str) -> bool:
        """Nobody on this host holds it; whether no other host does. Raises ReplyError."""
        left: int = self._line.script("holders_leave", (self._key(object_id),), self._epoch)
        self._entered.discard(object_id)
        return left == 0

    def bury(self, epoch: int, objects: Iterable[str]) -> list[str]:
        """A host is dead; what only it held, this host not."""
        ids = [held for i in objects for held in ((f"{i}/a", f"{i}/b") if kind_of(i) == "pipe" else (i,))]
        runs: list[Run] = [("holders_leave", (self._key(i),), (epoch,)) for i in ids]
        return [i for i, left in zip(ids, self._line.scripts(runs), strict=True) if left == 0]

    def _key(self, object_id: str) -> str:
        base, _, side = object_id.partition("/")
        return self._keys.base(base) + (f"holders-{side}" if side else "holders")
