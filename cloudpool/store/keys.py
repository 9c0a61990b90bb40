"""Every key in the server, with its type and lifetime. Nothing else spells a key.

A session's keys start with `cp:<session>:`; the rest is one `{hash tag}` an object, so that all keys of an object are in
one slot and a script may touch them together.

    cp:<session>:{session}:objects   hash    object id -> what it is; written before the object's first key
    cp:<session>:{session}:live      set     processes that may open connections (agent)
    cp:<session>:{session}:hosts     string  counter: a number for each life of a host (agent)
    cp:<session>:{session}:pids      string  counter: the numbers of far processes, above all kernels' (who starts one)
    cp:<session>:{session}:blocks    stream  what hosts have written to blocks that several of them have (agents)
    cp:<session>:{session}:readers   hash    host epoch -> the last entry of `blocks` that it has read (agents)
    cp:<session>:{session}:usage     hash    what invocations of functions have run, see host/usage.py (they)
    cp:<session>:{session}:claims    hash    number of a host that was asked for -> who is it (functions' hosts)
    cp:<session>:{session}:beat      string  counter: raised three times a lease; the first key to expire (agent)
    cp:<session>:{<object>}:<part>   the object's parts, see PARTS; `<part>:<party>` where each party has its own

An object id is `<kind>.<process>.<number>`; a party is a thread of a process, `<process>/<number>`; a process is
`<host epoch>.<number>`. All live as long as the object does; on a server of one's own they need no expiry, on a shared
one each is made with the session's and renewed by the agent.
"""

from __future__ import annotations

from typing import NamedTuple

SHARED_TTL_MS = 600_000  # on a shared server: after a bad end, keys are gone in ten minutes


class Parts(NamedTuple):
    """Names of an object's keys: `own` are one each, `party` are one for each party in the set `parties`."""

    own: tuple[str, ...]
    party: tuple[str, ...] = ()


PARTS: dict[str, Parts] = {
    # kind           own keys                                              one for each party
    "semaphore": Parts(("avail", "state", "parties", "holders"), ("held",)),
    "condition": Parts(("line", "requests", "parties", "holders"), ("wake",)),
    "event": Parts(("flag", "done", "holders")),
    "barrier": Parts(("state", "line", "arrived", "phases", "parties", "holders")),
    "queue": Parts(
        ("items", "ahead", "readers", "state", "seen", "line", "done", "parties", "holders"),
        ("taken", "room"),
    ),
    "pipe": Parts(
        ("a", "b", "room-a", "room-b", "state", "parties", "holders-a", "holders-b"),
        ("taken-a", "taken-b"),
    ),
    "block": Parts(("holders",)),
    "dict": Parts(("values", "order", "done", "holders")),
    "list": Parts(("items", "done", "holders")),
    "array": Parts(("items", "done", "holders")),
    "namespace": Parts(("values", "holders")),
    # Of far hosts (cloudpool/host): an inbox is a stream of letters, `life` the counter that a host's agent raises, `pids`
    # (hash) what each process of the host knows itself as, `used` the most memory that it has had, in bytes.
    "host": Parts(("inbox", "life", "pids", "used")),
    "fleet": Parts(("inbox",)),
    "launch": Parts(("content",)),
    "bundle": Parts(("content",)),
    "blob": Parts(("content", "ready")),
    "question": Parts(("content", "answer")),
    "pool": Parts(
        ("tasks", "results", "collected", "functions", "state", "parties", "holders"),
        ("running", "results", "collected"),
    ),
}

CONTAINERS = ("dict", "list", "array", "namespace")  # of managers

# The parts that hold users' payloads, whose blobs go with the object.
MESSAGES: dict[str, tuple[str, ...]] = {
    "queue": ("items", "ahead", "taken"),
    "pipe": ("a", "b"),
    "dict": ("values",),
    "list": ("items",),
    "array": ("items",),
    "namespace": ("values",),
    "pool": ("results", "collected"),
}


def kind_of(object_id: str) -> str:
    return object_id.partition(".")[0]


class Keys:
    """Spells the keys of one session."""

    __slots__ = (
        "_prefix",
        "beat",
        "blocks",
        "claims",
        "hosts",
        "live",
        "objects",
        "pids",
        "readers",
        "usage",
    )

    def __init__(self, session_id: str) -> None:
        self._prefix = f"cp:{session_id}:"
        own = self._prefix + "{session}:"
        self.objects = own + "objects"
        self.live = own + "live"
        self.hosts = own + "hosts"
        self.beat = own + "beat"
        self.pids = own + "pids"
        self.blocks = own + "blocks"
        self.readers = own + "readers"
        self.usage = own + "usage"
        self.claims = own + "claims"

    def base(self, object_id: str) -> str:
        """What the keys of an object start with."""
        return f"{self._prefix}{{{object_id}}}:"

    def client(self, name: str) -> str:
        """What a connection of the session's is called: by that its end finds those that are left."""
        return self._prefix + name

    def all(self) -> str:
        """A pattern that matches every key of the session."""
        return self._prefix + "*"
