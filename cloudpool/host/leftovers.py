"""What a session leaves in a server that others use too, taken away: its connections, then its keys."""

from __future__ import annotations

from typing import Protocol

from cloudpool.store import scripts
from cloudpool.store.keys import PARTS, Keys, kind_of
from cloudpool.store.wire import Connection, Reply, ReplyError

MOST_AT_ONCE = 500  # commands in one trip


class Store(Protocol):
    """A connection, or what makes it again after a cut."""

    def call(self, *command: object) -> Reply: ...


def clients(listing: object) -> dict[int, str]:
    """Ids and names of the clients in what CLIENT LIST answered."""
    lines = listing.decode(errors="replace").split("\n") if isinstance(listing, bytes) else []
    said = [dict(word.partition("=")[::2] for word in line.split(" ")) for line in lines]
    return {
        int(c["id"]): c.get("name", "")
        for c in said
        if c.get("id", "").isascii() and c.get("id", "").isdigit()
    }


def known(found: object) -> list[str]:
    """Of what stands in the registry, the ids of objects: on a server that others write to there may be anything."""
    ids = found if isinstance(found, list) else []
    decoded = [i.decode(errors="replace") for i in ids if isinstance(i, bytes)]
    return [i for i in decoded if kind_of(i) in PARTS]


def connections(store: Store, names: set[str]) -> list[int]:
    """The server's numbers of the connections that have these names."""
    return [i for i, name in clients(store.call("CLIENT", "LIST")).items() if name in names]


def end_connections(store: Connection, keys: Keys) -> None:
    """CLIENT KILL all of the session's. When it has answered, no command of theirs can run."""
    there = clients(store.call("CLIENT", "LIST"))
    ours = [client_id for client_id, name in there.items() if name.startswith(keys.client(""))]
    _run_all(store, [("CLIENT", "KILL", "ID", client_id) for client_id in ours])


def clear(store: Connection, keys: Keys) -> None:
    """Take away all of the session's, its connections first: what has been sent on one must not make a key anew."""
    store.call("DEL", keys.live, keys.beat)  # from here on none is admitted
    try:
        end_connections(store, keys)
    finally:  # who may not CLIENT LIST, or not any more, may delete
        _delete_keys(store, keys)


def _delete_keys(store: Connection, keys: Keys) -> None:
    objects = known(store.call("HKEYS", keys.objects))
    store.call("SCRIPT", "LOAD", scripts.source("free"))
    _run_all(store, [_free(keys, object_id) for object_id in objects])
    own = keys.objects, keys.hosts, keys.pids, keys.blocks, keys.readers, keys.usage, keys.claims
    store.call("DEL", *own)


def _free(keys: Keys, object_id: str) -> tuple[object, ...]:
    parts = PARTS[kind_of(object_id)]
    return (
        "EVALSHA",
        scripts.digest("free"),
        1,
        keys.base(object_id),
        len(parts.own),
        *parts.own,
        *parts.party,
    )


def _run_all(store: Connection, commands: list[tuple[object, ...]]) -> None:
    """Some hundred a trip: a session may have many thousands. Raises the first error when all have been tried."""
    errors: list[ReplyError] = []
    for n in range(0, len(commands), MOST_AT_ONCE):
        replies = store.call_many(commands[n : n + MOST_AT_ONCE])
        errors += [reply for reply in replies if isinstance(reply, ReplyError)]
    if errors:
        raise errors[0]
