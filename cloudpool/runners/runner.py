"""What brings far hosts: the interface that a runner of any kind has. It never sees a user's function, nor the server."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cloudpool.settings import Settings

COMMAND = (
    "python3",
    "-m",
    "cloudpool",
    "host",
)  # what a host runs; see `host.container` for how it gets its card

OF_MEMORY = "killed for want of memory"  # in the state of a host, as its engine saw it end


class Order(NamedTuple):
    """A session's order of hosts. `card` is what each of them must be given, by a way that shows it to nobody else."""

    session_id: str
    settings: Settings
    card: bytes  # secret: never in an environment, a command line, a label or a log
    folder: (
        str | None
    )  # of the session, where its server's socket is; None: the server is reached by the card's URL


class Runner(Protocol):
    """Hosts of one session, by number. Made by `Runner(order)`: raises MissingExtraError, RunnerError when there can be none.

    Each method is a call or two to an engine's API, and may take seconds; all come from one thread. Where hosts cannot
    have the server that starts by itself on the root's machine, `server` names the module of a program that starts one:
    see `host.launch`.
    """

    server: str | None = None
    # `needs_url` = True: hosts reach no server but one that redis_url names. `again_s`: when a host that has not come is asked
    # for again, by `start` with the same number. `shares_folder(settings, path)`: whether a folder of the root's machine can be
    # its hosts', too. A setting NAME_idle_s, of a runner called NAME, stands for idle_s. `make`,
    # when made: what a host is, where each is billed by what it runs (budget.py). `check(settings)`: called in the program,
    # before its first process is started there; raises as `Runner(order)`, and imports nothing for it. All optional.

    @staticmethod
    def room(settings: Settings) -> tuple[int, int]:
        """How many hosts at once at most, and how many processes each has room for. Asks no engine."""
        ...

    @staticmethod
    def shares_loopback(settings: Settings) -> bool:
        """Whether its hosts reach what listens on the loopback of the root's machine."""
        ...

    def start(self, numbers: range) -> None:
        """Ask for hosts of these numbers, in one call where the engine can. Raises RunnerError when none can come."""
        ...

    def states(self) -> dict[int, str]:
        """Why they have ended, of those hosts that have, from one look at the engine. Words for the user."""
        ...

    def waiting(self) -> str:
        """Why hosts that were asked for are not there yet, in one line, where the engine says; "" when it does not."""
        ...

    def stop(self, numbers: list[int]) -> None:
        """End these hosts, whatever they do, and take away what they leave. Unknown ones are passed over."""
        ...

    def close(self) -> None:
        """End all hosts of the session, and take away everything that was made for it."""
        ...
