"""What a host's first process does: `python3 -m cloudpool host`. It reads its card, and is the host's agent."""

from __future__ import annotations

import os
import signal
import sys

from cloudpool.errors import CloudpoolError, ServerError
from cloudpool.host import descriptors, folder as folders, identity
from cloudpool.host.card import Card
from cloudpool.host.term import Term
from cloudpool.host.zygote import Run


def main(card: str, number: int, folder: str | None, run: Run, preloaded: tuple[str, ...]) -> int:
    """`card` is a file, or "-" for stdin; `folder`, where the root's is seen from here. The exit status.

    `run` is what each process does, `preloaded` what it needs for that.
    """
    try:
        if card == "-":
            said = sys.stdin.buffer.readline()
        else:
            with open(card, "rb") as file:
                said = file.read()
        if not said.strip():
            raise CloudpoolError("no card came: whoever asked for this host has gone.")
        serve(Card.decode(said), number, folder, run, preloaded)
        return 0
    except CloudpoolError as error:
        print(f"cloudpool: {error}", file=sys.stderr, flush=True)
        return 1


def serve(
    card: Card,
    number: int,
    folder: str | None,
    run: Run,
    preloaded: tuple[str, ...],
    term: Term | None = None,
) -> None:
    """Be that host until it is told to leave, the session is over, or its `term` is. Raises CloudpoolError."""
    from cloudpool.host.far import FarAgent
    from cloudpool.host.line import LostError

    identity.install()
    descriptors.raise_limit()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own, making = folders.make()
    held = folders.claim(own)
    os.close(making)
    try:
        if not card.url:
            assert folder is not None, "the server is in a folder that was not named"
            target = os.path.join(folder, folders.SERVER_SOCKET)
            os.symlink(target, os.path.join(own, folders.SERVER_SOCKET))
        agent = FarAgent(card, own, number, run, preloaded, term)
    except BaseException as error:
        folders.remove(own)
        if isinstance(error, LostError):
            raise ServerError(f"the session is over: {error}.") from None
        raise
    try:
        agent.run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending
        agent.end()
        os.close(held)
