"""A connection whose every reply means that a replica has it too, for the setting `durable`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cloudpool.errors import ServerError
from cloudpool.store.wire import Connection, OnReply, Reply, ReplyError, packed


class Durable(Connection):
    """Each command goes with a WAIT, in one trip. A cut before the WAIT's answer is a cut of the command.

    What is posted waits as well: else a failover could lose what had been answered and nobody sends again.
    """

    __slots__ = ("_patience_ms",)
    _patience_ms: int

    @classmethod
    def instead_of(cls, connection: Connection, patience_s: float) -> Durable:
        """Take over a connection that has just been opened."""
        durable = cls(connection._sock)
        durable._patience_ms = max(1, round(1000 * patience_s))
        return durable

    def call(self, *command: Any) -> Reply:
        [reply] = self.call_many([command])
        if isinstance(reply, ReplyError):
            try:
                raise reply
            finally:
                del reply  # as in Connection.call
        return reply

    def call_many(self, commands: Iterable[tuple[Any, ...]]) -> list[Reply]:
        """As Connection's. Raises ServerError when no replica has confirmed in time; the commands have run."""
        sent = list(commands)
        number = len(sent)
        if sent and sent[-1][0] == "BLMOVE":
            # WAIT is about what its client has written, and servers do not count a move that had to wait for its element:
            # so the element is moved once more, to where it is.
            _, _, to, _, side, *_ = sent[-1]
            sent.append(("LMOVE", to, to, side, side))
        *replies, confirmed = super().call_many([*sent, ("WAIT", 1, self._patience_ms)])
        self._check(confirmed)
        return replies[:number]

    def post_packed(self, data: bytes, on_reply: OnReply | None) -> None:
        replies: list[Reply] = []
        super().post_packed(data, replies.append)
        super().post_packed(packed(("WAIT", 1, self._patience_ms)), replies.append)
        self.settle()
        reply, confirmed = replies
        self._check(confirmed)
        if on_reply is not None:
            on_reply(reply)

    def _check(self, confirmed: Reply) -> None:
        if isinstance(confirmed, int) and confirmed < 1:
            raise ServerError(
                f"no replica has confirmed a write within {self._patience_ms / 1000:g} s, as CLOUDPOOL_DURABLE wants it.\n"
                "Look after the server's replicas, or unset CLOUDPOOL_DURABLE to go on without."
            )
