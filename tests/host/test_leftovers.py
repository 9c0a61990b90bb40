"""What a session leaves in a server goes, however much it is; what others have there stays."""

from contextlib import closing

import pytest

from cloudpool.host import leftovers
from cloudpool.store import scripts
from cloudpool.store.keys import Keys
from cloudpool.store.wire import ReplyError

KEYS = Keys("leftovers-test")
MANY = 2 * leftovers.MOST_AT_ONCE + 100


@pytest.fixture
def objects(store):
    """The ids of many locks in the server."""
    ids = [f"semaphore.1.1.{n}" for n in range(MANY)]
    store.call("HSET", KEYS.objects, *(word for object_id in ids for word in (object_id, "")))
    store.call_many([("RPUSH", KEYS.base(object_id) + "avail", "t") for object_id in ids])
    yield ids
    for key in store.call("KEYS", KEYS.all()):
        store.call("DEL", key)


def test_keys_of_many_objects_go(store, objects):
    store.call("SET", "test:other", "stays")
    leftovers.clear(store, KEYS)
    assert store.call("KEYS", KEYS.all()) == []
    assert store.call("GETDEL", "test:other") == b"stays"


def test_registry_stays_when_an_object_cannot_go(store, objects):
    store.call("HSET", KEYS.base(objects[0]) + "parties", "no", "set")
    with pytest.raises(ReplyError, match="WRONGTYPE"):
        leftovers.clear(store, KEYS)
    assert store.call("EXISTS", KEYS.base(objects[-1]) + "avail") == 0
    assert store.call("HLEN", KEYS.objects) == MANY


def test_process_that_comes_as_a_session_ends_is_not_admitted(store):
    """Its agent names it when nobody is admitted any more, and those that are there have been closed."""
    leftovers.clear(store, KEYS)
    named = store.call("EVAL", scripts.source("name"), 2, KEYS.beat, KEYS.live, "2.7", 60_000)
    assert named == store.call("EVAL", scripts.source("admit"), 1, KEYS.live, "2.7") == 0
    assert store.call("KEYS", KEYS.all()) == []


def test_connections_of_a_session_end_and_no_others(store, dial):
    with closing(dial()) as ours, closing(dial()) as theirs:
        ours.call("CLIENT", "SETNAME", "cp:leftovers-test:1.1")
        theirs.call("CLIENT", "SETNAME", "cp:leftovers:1.1")
        leftovers.end_connections(store, KEYS)
        with pytest.raises(OSError):
            ours.call("PING")
        assert theirs.call("PING") == b"PONG"
