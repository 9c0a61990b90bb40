"""Every decoder of what comes from the server, or from another process, on random and on mutated real bytes.

Whatever they are: it decodes them, or raises one of the errors that it says; never another, and it comes to an end.
"""

from __future__ import annotations

import marshal
import os
import pickle
import socket
from contextlib import suppress
from datetime import timedelta
from multiprocessing import AuthenticationError
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

pytest.importorskip("cryptography")

import cloudpool
from cloudpool.context.exits import Exits
from cloudpool.context.losses import Losses
from cloudpool.context.tasks import Loss, Result, Task
from cloudpool.errors import WorkerLostError
from cloudpool.host import leftovers, mail, session as sessions
from cloudpool.sealing import Sealer
from cloudpool.store import blobs
from cloudpool.store.keys import PARTS, kind_of
from cloudpool.store.wire import Connection, ReplyError
from cloudpool.sync import dictkeys, payload
from cloudpool.sync.proxy import netstrings

often = settings(
    max_examples=100,
    deadline=timedelta(seconds=5),  # a hang, not a slow machine
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Executed(Exception):
    """A forged pickle was unpickled."""


def explode() -> None:
    raise Executed


class Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


BOMB = pickle.dumps(Bomb())


@st.composite
def mutated(draw: st.DrawFn, *seeds: bytes) -> bytes:
    """One of the seeds with bytes changed, cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["flip", "cut", "insert", "double"]))
        if how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 20))]
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        else:
            data[at:at] = data[max(0, at - draw(st.integers(1, 20))) : at]
    return bytes(data)


def any_of(*seeds: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=200), mutated(*seeds))


# What a command may answer that should have answered bytes.
replies = st.recursive(
    st.one_of(st.none(), st.integers(), st.binary(max_size=30), st.just(ReplyError("ERR"))),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


# -- RESP ---------------------------------------------------------------------------------------------------------------


@often
@given(
    any_of(
        b"*3\r\n$3\r\nabc\r\n:12\r\n$-1\r\n", b"+OK\r\n", b"-ERR no\r\n", b"%1\r\n*1\r\n:1\r\n:2\r\n",
        b"*2\r\n*1\r\n+a\r\n$4\r\n\r\n\r\n\r\n", b"_\r\n#t\r\n,1.5\r\n(12345678901234567890\r\n>1\r\n+a\r\n=7\r\ntxt:abc\r\n",
        b"*1\r\n" * 20,
    )
)  # fmt: skip
@example(b"%1\r\n*1\r\n:1\r\n:2\r\n")
@example(b"$-2\r\n")
def test_a_reply_is_read_or_the_connection_counts_as_cut(data):
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data)
    connection = Connection(ours)
    try:
        with suppress(OSError, ReplyError):  # the end of the data is the end of the connection
            while True:
                connection.receive()
    finally:
        connection.close()


# -- payloads -----------------------------------------------------------------------------------------------------------

ours, theirs = Sealer(b"k" * 32), Sealer(b"K" * 32)
SEALED = ours.seal(b"secret", b"queue.1.1.1 item", b"p")


@often
@given(
    any_of(SEALED, SEALED * 2, theirs.seal(BOMB, b"queue.1.1.1 item", b"p"), b"p" + BOMB), st.integers(0, 20)
)
def test_a_sealed_message_opens_to_what_was_sealed_or_not_at_all(data, clear):
    try:
        secret = ours.open(data, b"queue.1.1.1 item", clear)
    except AuthenticationError:
        return
    assert (data, secret, clear) == (SEALED, b"secret", 1)


HIDDEN = ours.hide(b"sname", b"dict.1.1.1 field")


@often
@given(any_of(HIDDEN, HIDDEN[:16]))
def test_a_hidden_name_shows_as_what_it_was_or_not_at_all(data):
    try:
        name = ours.show(data, b"dict.1.1.1 field")
    except AuthenticationError:
        return
    assert (data, name) == (HIDDEN, b"sname")


@pytest.fixture
def session(server):
    return sessions.current()


tcp = pytest.mark.parametrize("server", ["tcp"], indirect=True)
embedded = pytest.mark.parametrize("server", ["embedded"], indirect=True)


@tcp
@often
@given(data=st.one_of(replies, any_of(b"p" + BOMB, b"bblob.1.1.1 10 20", b"bblob.1.1.1 " + b"x" * 50)))
def test_a_message_that_was_not_sealed_is_not_unpickled(session, data):
    with pytest.raises(AuthenticationError):
        payload.unpack(data, session, b"queue.1.1.1 item")


@tcp
@often
@given(data=st.data())
def test_a_changed_message_is_not_unpickled(session, data):
    message = payload.pack([1, "x"], session, b"queue.1.1.1 item")
    changed = data.draw(mutated(message))
    if changed != message:
        with pytest.raises(AuthenticationError):
            payload.unpack(changed, session, b"queue.1.1.1 item")


@embedded
@often
@given(data=any_of(b"bblob.1.1.1 10 20", b"bblob.1.1.1", b"b../agent.sock 10", b"bblob./../x 10"))
def test_a_message_that_names_no_blob_is_an_unpickling_error(session, data):
    plain = b"b" + data.removeprefix(b"b")
    with pytest.raises((pickle.UnpicklingError, FileNotFoundError)):
        payload.loads(plain, session)
    with suppress(pickle.UnpicklingError):
        assert payload.size(plain) >= 0


@often
@given(any_of(b"bblob.1.1.1 10", b"bblob.../../1 ", b"bblob.a/b ", b"bblob.\x00 "))
def test_a_blobs_name_is_never_a_path(data):
    name = blobs.named(data)
    assert name is None or (
        name.startswith("blob.") and "/" not in name and "\0" not in name and len(name) < len(data)
    )


# -- records ------------------------------------------------------------------------------------------------------------


@often
@given(st.one_of(replies, any_of(b"1.0 0123456789ab 1 0  apx", b"1.0.5 t 3 2 1.2/3 mbblob.1.1.1 5")))
def test_a_task_is_one_or_refused(element):
    try:
        task = Task.parse(element)
    except AuthenticationError:
        return
    assert isinstance(task.items, int)
    assert isinstance(task.payload, bytes)


@often
@given(
    st.one_of(
        replies,
        any_of(
            b"1.0 +px",
            b"1.0.7 -px",
            b"* 7:1.0 +px9:1.0.7 -px",
            b"! x77 14:1.0 t 3 1  mpx",
            b"1.0 k",
            b"! ipx",
            b"! q",
        ),
    )
)
def test_a_result_is_one_or_refused(element):
    try:
        results = Result.parse_all(element)
    except AuthenticationError:
        return
    assert all(len(result.numbers) in (0, 2, 3) for result in results)


class NoNews(Exits):
    WAIT_S = 0.0


@often
@given(any_of(b"77 14:1.0 t 3 1  mpx", b"77 18:1.0 t 1 2 1.2/3 apx14:1.1 t 3 0  mpx", b"0 14:1.1 t 3 0  mpx"))
def test_a_death_is_one_in_tasks_or_refused(said):
    losses = Losses(SimpleNamespace(retries=2), NoNews([]))
    try:
        pid, tasks = Loss.parse(said)
        assert all(len(task.numbers) in (2, 3) for task in tasks)
    except AuthenticationError:
        return
    [guilty] = losses.blamed(tasks, losses.exit(pid))
    assert guilty is tasks[0]
    again = losses.again(guilty, losses.exit(pid), 3)
    assert isinstance(again, WorkerLostError) or [task.id for task in again] == [guilty.id]


@tcp
@often
@given(
    order=st.one_of(
        replies,
        st.lists(
            any_of(b"", b"?", b"1:x", b"2", b"sfield", b"#" + HIDDEN, b"?1.1/1.1", b"3:" + BOMB), max_size=6
        ),
    )
)
def test_a_dicts_records_are_keys_or_refused(server, order):
    mapping = _dict_of(server)
    with suppress(AuthenticationError, ConnectionRefusedError):
        mapping._in_order(order if isinstance(order, list) else [])


_dicts: dict[str, Any] = {}


def _dict_of(server: str) -> Any:
    if server not in _dicts or _dicts[server]._session is not sessions.current():
        _dicts[server] = cloudpool.Manager().dict()
    return _dicts[server]


@often
@given(any_of(b"sname", b"n12", b"Nff", b"babc", b"0", b"n+", b"q1/2"))
def test_a_fields_name_is_a_keys_or_is_known_not_to_be(name):
    if dictkeys.is_key(name):
        # UnicodeDecodeError is one too: only where the name was shown, so it was a process's own.
        with suppress(ValueError):
            assert dictkeys.field(dictkeys.key_of(name)) is not None


@often
@example(b"-5:abc")
@given(any_of(b"3:abc5:abcde", b"10:x", b":", b"-5:abc"))
def test_a_list_of_messages_ends(data):
    taken = 0
    with suppress(AuthenticationError):
        for message in netstrings(data):
            taken += 1
            assert isinstance(message, bytes)
            assert taken <= len(data)


# -- what the agent reads --------------------------------------------------------------------------------------------------

CLIENTS = (
    b"id=3 addr=127.0.0.1:1 name=cp:abc:1.2 age=1\nid=4 addr=x name=cp:abc:1.22 age=2\nid=5 name= age=0\n"
)


@often
@given(st.one_of(replies, any_of(CLIENTS)))
def test_clients_are_found_or_not(listing):
    assert all(isinstance(i, int) for i in leftovers.clients(listing))


def test_the_clients_of_a_process_are_found():
    assert leftovers.clients(CLIENTS) == {3: "cp:abc:1.2", 4: "cp:abc:1.22", 5: ""}


@often
@given(st.one_of(replies, st.lists(any_of(b"queue.1.1.1", b"nothing.1", b"\xff"), max_size=5)))
def test_a_registry_has_objects_of_known_kinds_only(found):
    assert all(kind_of(i) in PARTS for i in leftovers.known(found))


# Messages between processes come from this user's own, in a 0700 folder, so they are marshal's, which believes a size
# that it reads. What can happen there is half a message, or one of another version.


def heard(data: bytes) -> Any:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(data)
        message, descriptors = mail.receive(ours)
    assert descriptors == []
    return message


@pytest.mark.parametrize("message", [("hello", ["queue.1.1.1"]), ("born", 77, None, ["x", "y"]), ("end",)])
def test_half_a_message_between_processes_is_an_os_error(message):
    whole = marshal.dumps(message)
    assert heard(whole) == message
    for length in range(1, len(whole)):
        with pytest.raises(OSError, match="message"):
            heard(whole[:length])


@often
@given(
    st.recursive(
        st.one_of(
            st.none(), st.integers(), st.text(max_size=9), st.binary(max_size=9), st.floats(allow_nan=False)
        ),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple)),
    )
)
def test_a_message_between_processes_starts_with_a_word_or_is_an_os_error(content):
    try:
        message = heard(marshal.dumps(content))
    except OSError:
        assert not (isinstance(content, tuple) and content and isinstance(content[0], str))
    else:
        assert message == content


@often
@given(st.lists(st.text(max_size=50), max_size=5))
def test_a_message_between_processes_arrives_as_it_was_sent(ids):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, open(os.devnull) as file:
        mail.send(theirs, ("holds", ids), [file.fileno()])
        message, (descriptor,) = mail.receive(ours)
        os.close(descriptor)
        assert message == ("holds", ids)
