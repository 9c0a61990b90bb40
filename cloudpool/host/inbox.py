"""Letters between the agents of a session's hosts, and the fleets: a stream in the server for each reader.

    agent --XADD--> {host.<epoch>}:inbox --XREAD, in the agent's own poll--> agent

Nothing is lost by a cut: the reader asks again from where it was. A sender may have to send again: agents and fleets
number their letters, and the reader passes over what it has had. Those of processes bear to come twice.
"""

from __future__ import annotations

import itertools
import marshal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloudpool.store.keys import Keys
from cloudpool.store.wire import Connection, ReplyError

if TYPE_CHECKING:
    from cloudpool.sealing import Sealer

Letter = tuple[Any, ...]
WAIT_MS = 30_000  # then the reader asks again: a connection that is dead without a word is noticed
MOST_LETTERS = 100  # at once
KEPT = 500  # letters that were read and are not trimmed yet
KEPT_IDLE = 50  # the same when no more wait: senders take the stream's length for what is unread


def host_id(epoch: int) -> str:
    return f"host.{epoch}"


def fleet_id(method: str) -> str:
    return f"fleet.{method}"


class Post:
    """Letters on their way out."""

    def __init__(self, keys: Keys, ttl_ms: int, sealer: Sealer | None) -> None:
        self.keys, self.ttl_ms, self._sealer = keys, ttl_ms, sealer

    def key(self, reader: str) -> str:
        return self.keys.base(reader) + "inbox"

    def command(
        self, reader: str, letter: Letter, *, sender: str = "", number: int = 0, opening: bool = False
    ) -> tuple[object, ...]:
        """What posts a letter; to a reader who has gone, or is not there yet, nothing. `opening` makes the inbox."""
        data = marshal.dumps((sender, number, *letter))
        if self._sealer is not None:
            data = self._sealer.seal(data, b"%b letter" % reader.encode())
        only_there = () if opening else ("NOMKSTREAM",)
        return "XADD", self.key(reader), *only_there, "*", "letter", data

    def opening(self, reader: str) -> list[tuple[object, ...]]:
        """What makes a reader's inbox, so that letters may come before the reader does. Bears repetition."""
        made = [
            ("HSET", self.keys.objects, reader, ""),
            self.command(reader, ("begin",), opening=True),
        ]
        return [*made, ("PEXPIRE", self.key(reader), self.ttl_ms)] if self.ttl_ms else made

    def opened(self, reader: str, data: bytes) -> Letter:
        """Raises AuthenticationError for what nobody of this session has sent."""
        if self._sealer is not None:
            data = self._sealer.open(data, b"%b letter" % reader.encode())
        letter: Letter = marshal.loads(data)
        return letter


class Outbox:
    """What an agent, or a fleet, has to say to the server in this order. What is refused waits, and all behind it."""

    def __init__(self, sender: str, post: Post, call: Callable[..., Any]) -> None:
        self._sender, self._post, self._call = sender, post, call
        self._numbers = itertools.count(1)
        self._errands: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._is_running = False

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._errands)

    def send(self, reader: str, letter: Letter) -> None:
        """Post a letter. Raises ReplyError when that, or something before it, is refused: it is kept."""
        command = self._post.command(reader, letter, sender=self._sender, number=next(self._numbers))
        self.do(self._call, *command)

    def do(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have something else done, in its turn; it bears repetition. Raises as `send`."""
        self._errands.append((function, arguments))
        self.run()

    def run(self) -> None:
        """Do what waits. Raises ReplyError."""
        if self._is_running:  # what is being done has something done: in its turn
            return
        self._is_running = True
        try:
            while self._errands:
                function, arguments = self._errands[0]
                function(*arguments)
                self._errands.popleft()
        finally:
            self._is_running = False


class Inbox:
    """One reader's letters. Its owner polls `fileno()` and calls `read` when there is something."""

    def __init__(self, reader: str, post: Post, opens: Callable[[], Connection], name: str) -> None:
        self.reader = reader
        self._post, self._opens, self._name = post, opens, name
        self._key = post.key(reader)
        self._after, self._read = "0", 0
        self._had: dict[str, int] = {}  # by sender: the number of its last letter
        self._open(*post.opening(reader))

    def _open(self, *commands: tuple[object, ...]) -> None:
        """A line, again after a cut: where that was the session's end, `opens` says so."""
        while True:
            self._line = self._opens()
            try:
                self._line.call("CLIENT", "SETNAME", self._name)
                for command in commands:
                    self._line.call(*command)
                self._ask()
                return
            except OSError:
                self._line.close()

    def fileno(self) -> int:
        return self._line.fileno()

    def _ask(self) -> None:
        self._line.send("XREAD", "COUNT", MOST_LETTERS, "BLOCK", WAIT_MS, "STREAMS", self._key, self._after)

    def read(self) -> list[Letter]:
        """The letters that have come. Raises OSError when the line is cut: then `reopen`."""
        found = self._line.receive()
        if isinstance(found, ReplyError):
            raise found
        letters = []
        for name, fields in found[0][1] if found else ():
            self._after = name.decode()
            sender, number, *letter = self._post.opened(self.reader, fields[1])
            if not sender or number > self._had.get(sender, 0):
                self._had[sender] = number
                letters.append(tuple(letter))
        came = len(found[0][1]) if found else 0
        self._read += came
        if self._read > (KEPT_IDLE if came < MOST_LETTERS else KEPT):
            self._read = 0
            self._line.call("XTRIM", self._key, "MINID", self._after)
        self._ask()
        return letters

    def reopen(self) -> None:
        """Another line after a cut; nothing that was sent is missed."""
        self._line.close()
        self._open()

    def close(self) -> None:
        self._line.close()
