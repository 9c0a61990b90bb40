"""The owner of the server changes, moves and repeats what stands there: the reader refuses it, and runs nothing of it."""

from __future__ import annotations

import ctypes
import os
import pickle
import threading
from array import array as typed_array
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

import cloudpool
from cloudpool import shared_memory
from cloudpool.host import session as sessions
from cloudpool.sealing import Sealer
from cloudpool.seen import Seen
from cloudpool.sync import payload

MARK = "cleartextmark"

only_tcp = pytest.mark.parametrize("server", ["tcp"], indirect=True)


class Bomb:
    """Unpickling it makes a folder: what must never be there."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


@pytest.fixture
def bomb(tmp_path) -> Iterator[bytes]:
    """The pickle of one that has not gone off at the test's end."""
    path = str(tmp_path / "executed")
    yield pickle.dumps(Bomb(path))
    assert not os.path.exists(path)


@pytest.fixture(autouse=True)
def tidy(request) -> Iterator[None]:
    """What a test has made is freed when the next one counts what is there."""
    settle = request.getfixturevalue("settle") if "server" in request.fixturenames else None
    yield
    if settle is not None:
        settle()
        for left in Path(sessions.current().info.folder).glob("blob.*"):  # whose messages were written over
            left.unlink()


class Owner:
    """Who owns the server: reads and writes single messages in a list, a hash or a string."""

    def __init__(self, store: Any) -> None:
        self.call = store.call

    def base(self, thing: Any) -> str:
        if hasattr(thing, "_base"):
            return thing._base
        parts = (getattr(thing, name, None) for name in ("_items", "_of", "_inqueue", "_semlock"))
        return next(part._base for part in parts if hasattr(part, "_base"))

    def fields(self, key: str) -> list[Any]:
        """Where messages stand in that key."""
        kind = self.call("TYPE", key)
        if kind == b"list":
            return [i for i, m in enumerate(self.call("LRANGE", key, 0, -1)) if m]
        found = self.call("HGETALL", key)
        return [f for f in found[::2] if f and f[:1] not in (b"/", b"?")]

    def read(self, key: str, field: Any) -> bytes:
        return self.call(*(("LINDEX" if isinstance(field, int) else "HGET"), key, field))

    def write(self, key: str, field: Any, message: bytes) -> None:
        self.call(*(("LSET" if isinstance(field, int) else "HSET"), key, field, message))


@pytest.fixture
def owner(store) -> Owner:
    return Owner(store)


class Piped:
    """A Pipe as a queue."""

    def __init__(self) -> None:
        self.reader, self.writer = cloudpool.Pipe(False)
        self._base = self.reader._base
        self.put, self.get = self.writer.send, self.reader.recv


def a_manager() -> Any:
    return cloudpool.Manager()


# kind: what makes it, puts a value and reads it; which part of it holds the message; whether it is read once
KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any, Any], Any], Callable[[Any], Any], str, bool]] = {
    "Queue": (cloudpool.Queue, lambda q, v: (q.put(v), q.qsize()), lambda q: q.get(timeout=9), "items", True),
    "Queue of a size": (lambda: cloudpool.Queue(9), lambda q, v: q.put(v), lambda q: q.get(timeout=9), "items", True),
    "JoinableQueue": (cloudpool.JoinableQueue, lambda q, v: (q.put(v), q.qsize()), lambda q: q.get(), "items", True),
    "SimpleQueue": (cloudpool.SimpleQueue, lambda q, v: (q.put(v), q.empty()), lambda q: q.get(), "items", True),
    "Manager().Queue": (lambda: a_manager().Queue(), lambda q, v: q.put(v), lambda q: q.get(), "items", True),
    "Pipe": (Piped, lambda p, v: p.put(v), lambda p: p.get(), "a", True),
    "dict": (lambda: a_manager().dict(), lambda d, v: d.update(k=v), lambda d: d["k"], "values", False),
    "dict, all": (lambda: a_manager().dict(), lambda d, v: d.update(k=v), lambda d: d.copy()["k"], "values", False),
    "dict, get": (lambda: a_manager().dict(), lambda d, v: d.update(k=v), lambda d: d.get("k"), "values", False),
    "dict, pop": (lambda: a_manager().dict(), lambda d, v: d.update(k=v), lambda d: d.pop("k"), "values", False),
    "dict, popitem": (lambda: a_manager().dict(), lambda d, v: d.update(k=v), lambda d: d.popitem()[1], "values", False),
    "list": (lambda: a_manager().list(), lambda x, v: x.append(v), lambda x: x[0], "items", False),
    "list, all": (lambda: a_manager().list(), lambda x, v: x.append(v), lambda x: x[:][0], "items", False),
    "list, pop": (lambda: a_manager().list(), lambda x, v: x.append(v), lambda x: x.pop(), "items", False),
    "list, sort": (lambda: a_manager().list(), lambda x, v: x.append(v), lambda x: (x.sort(), x[0])[1], "items", False),
    "Namespace": (lambda: a_manager().Namespace(), lambda n, v: setattr(n, "k", v), lambda n: n.k, "values", False),
    "Namespace, all": (lambda: a_manager().Namespace(), lambda n, v: setattr(n, "k", v), lambda n: n._getvalue().k,
                       "values", False),
    "Value": (lambda: a_manager().Value("i", 0), lambda n, v: n.set(v), lambda n: n.get(), "values", False),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request, server):
    return KINDS[request.param]


@only_tcp
class TestEachKind:
    """What may be done to any message."""

    def put(self, kind, owner, value="value"):
        make, put, read, part, _ = kind
        thing = make()
        put(thing, value)
        key = owner.base(thing) + part
        (field,) = owner.fields(key)
        return thing, key, field, lambda: read(thing)

    def test_untouched_it_is_read(self, kind, owner):
        _, _, _, read = self.put(kind, owner)
        assert read() == "value"

    def test_one_changed_bit_is_refused(self, kind, owner):
        # The kind of message, the sender, the number, the ciphertext, the tag.
        for place in (0, 1, 20, 26, -1):
            _, key, field, read = self.put(kind, owner)
            changed = bytearray(owner.read(key, field))
            changed[place] ^= 1
            owner.write(key, field, bytes(changed))
            with pytest.raises(AuthenticationError):
                read()

    def test_a_shorter_one_is_refused(self, kind, owner):
        for length in (1, 12, 30, -1):
            _, key, field, read = self.put(kind, owner)
            owner.write(key, field, owner.read(key, field)[:length])
            with pytest.raises(AuthenticationError):
                read()

    def test_a_pickle_is_not_unpickled(self, kind, owner, bomb):
        for forged in (b"p" + bomb, bomb, b"b" + bomb, b"bblob.1.1.1 10"):
            _, key, field, read = self.put(kind, owner)
            owner.write(key, field, forged)
            with pytest.raises(AuthenticationError):
                read()

    def test_another_sessions_is_refused(self, kind, owner, bomb):
        thing, key, field, read = self.put(kind, owner)
        items = getattr(thing, "_items", None) or getattr(thing, "_of", None)
        where = (
            items.where
            if items is not None
            else getattr(thing, "_place", b"") + (field if isinstance(field, bytes) else b"")
        )
        owner.write(key, field, Sealer(b"k" * 32).seal(bomb, where, b"p"))
        with pytest.raises(AuthenticationError):
            read()

    def test_another_objects_is_refused(self, kind, owner):
        _, key, field, _ = self.put(kind, owner, "other")
        message = owner.read(key, field)
        _, key, field, read = self.put(kind, owner)
        owner.write(key, field, message)
        with pytest.raises(AuthenticationError):
            read()

    def test_a_large_one_is_named_by_a_sealed_message(self, kind, owner):
        _, key, field, read = self.put(kind, owner, "large" * 50_000)
        message = owner.read(key, field)
        assert message.startswith(b"bblob.")
        other, other_key, other_field, _ = self.put(kind, owner, "other" * 50_000)
        rest = message.partition(b" ")[2]
        other_name = owner.read(other_key, other_field).partition(b" ")[0]
        owner.write(key, field, other_name + b" " + rest)
        with pytest.raises(AuthenticationError):
            read()
        del other

    def test_a_second_sight_is_refused_where_things_are_read_once(self, kind, owner):
        make, put, read, part, once = kind
        thing = make()
        key = owner.base(thing) + part
        put(thing, "first")
        (field,) = owner.fields(key)
        message = owner.read(key, field)
        if not once:
            assert read(thing) == "first"
            return
        assert read(thing) == "first"
        put(thing, "second")
        owner.call("LPUSH", key, message)
        with pytest.raises(AuthenticationError, match="before"):
            read(thing)
        assert read(thing) == "second"


# -- moves within an object, and between kinds --------------------------------------------------------------------------


@only_tcp
def test_values_of_a_dict_and_attributes_do_not_change_places(server, owner):
    manager = cloudpool.Manager()
    mapping, namespace = manager.dict(a="A", b="B"), manager.Namespace(a="A", b="B")
    for thing, read in ((mapping, lambda: mapping["a"]), (namespace, lambda: namespace.a)):
        key = thing._base + "values"
        one, other = owner.fields(key)
        first, second = owner.read(key, one), owner.read(key, other)
        owner.write(key, one, second)
        owner.write(key, other, first)
        with pytest.raises(AuthenticationError):
            read()


@only_tcp
def test_an_element_of_an_array_does_not_change_its_place(server, owner):
    array = cloudpool.Manager().Array("i", [1, 2, 3])
    assert (array[0], array[-1], list(array)) == (1, 3, [1, 2, 3])
    array[-1], array[0:1] = 4, typed_array("i", [9])
    assert (len(array), array[:]) == (3, typed_array("i", [9, 2, 4]))
    raw, width = owner.call("GET", array._base + "items"), array._width
    owner.call(
        "SET",
        array._base + "items",
        raw[:1] + raw[1 + width : 1 + 2 * width] + raw[1 : 1 + width] + raw[1 + 2 * width :],
    )
    with pytest.raises(AuthenticationError):
        array[0]
    with pytest.raises(AuthenticationError):
        list(array[:])
    assert array[2] == 4
    owner.call("SET", array._base + "items", raw[:-1])
    with pytest.raises(AuthenticationError):
        array[:]


@only_tcp
def test_keys_of_a_dict_are_not_made_up(server, owner, bomb):
    mapping = cloudpool.Manager().dict({(1, "a"): 1, "b": 2, True: 3, frozenset(): 4})
    order, pristine = mapping._base + "order", owner.call("HGETALL", mapping._base + "order")
    assert set(mapping.keys()) == {(1, "a"), "b", True, frozenset()}

    def restore():
        owner.call("DEL", order)
        owner.call("HSET", order, *pristine)
        mapping._compared = None

    entries = dict(zip(pristine[::2], pristine[1::2], strict=True))
    entries.pop(b"")
    tuple_field = next(field for field, entry in entries.items() if entry.startswith(b"1:"))
    set_field = next(field for field, entry in entries.items() if entry.startswith(b"4:"))
    for field, entry in (
        (tuple_field, b"1:" + bomb),  # a forged key
        (tuple_field, b"1"),  # one without its key
        (tuple_field, b"1:" + entries[set_field][2:]),  # another's
        (b"sforged", b"5"),  # a field in the clear
        (b"#" + b"x" * 24, b"5"),
        (tuple_field, b"first"),
    ):
        owner.call("HSET", order, field, entry)
        mapping._compared = None
        with pytest.raises(AuthenticationError):
            mapping.keys()
        restore()
    assert len(mapping.keys()) == 4


@only_tcp
def test_messages_do_not_go_from_one_kind_to_another(server, owner):
    queue, pipe, shared = cloudpool.Queue(), Piped(), cloudpool.Manager().list()
    queue.put("x")
    assert queue.qsize() == 1
    message = owner.read(queue._items._base + "items", 0)
    owner.call("RPUSH", pipe._base + "a", message)
    owner.call("RPUSH", shared._base + "items", message)
    with pytest.raises(AuthenticationError):
        pipe.get()
    with pytest.raises(AuthenticationError):
        shared[0]
    assert queue.get(timeout=9) == "x"


@only_tcp
def test_what_went_one_way_through_a_pipe_does_not_come_back(server, owner):
    ours, theirs = cloudpool.Pipe()
    ours.send("to them")
    owner.call("RPUSH", ours._base + "a", owner.read(ours._base + "b", 0))
    with pytest.raises(AuthenticationError):
        ours.recv()
    assert theirs.recv() == "to them"


# -- second sights that are rightful ------------------------------------------------------------------------------------


@only_tcp
def test_an_item_that_an_interrupted_get_gave_back_is_got(server, interrupt):
    queue = cloudpool.Queue()
    channel_key = queue._items._base
    interrupt(lambda: queue.get(timeout=30), "BLMOVE", channel_key)
    queue.put("x")
    assert queue.get(timeout=9) == "x"


def _take_and_die(queue):
    queue.get()
    os._exit(1)


def test_an_item_of_a_dead_process_is_got_by_another(ctx, start):
    queue = ctx.JoinableQueue()
    queue.put("x")
    start(_take_and_die, queue).join()
    assert queue.get(timeout=30) == "x"
    queue.task_done()


def _die_once(path):
    try:
        os.mkdir(path)
    except FileExistsError:
        return "second"
    os._exit(1)


def test_a_task_of_a_dead_worker_runs_again(ctx, tmp_path):
    with ctx.Pool(1) as pool:
        assert pool.map(_die_once, [str(tmp_path / "once")]) == ["second"]
    pool.join()


def _relay(queue, answers):
    answers.put(queue.get(timeout=30))


@only_tcp
def test_a_forked_child_is_a_sender_of_its_own(server):
    """Its numbers begin anew: under the parent's subkey they would be used twice."""
    ctx = cloudpool.get_context("fork")
    queue, answers = ctx.Queue(), ctx.Queue()
    sealer = sessions.current().sealer
    queue.put("x")
    child = ctx.Process(target=_relay, args=(queue, answers))
    child.start()
    child.join()
    assert answers.qsize() == 1
    items = answers._items
    message = items._here().channel().call("LINDEX", items._base + "items", 0)
    assert message[1:17] != sealer._mine.name
    assert answers.get(timeout=9) == "x"


def test_a_fork_that_no_one_hears_of_is_a_sender_of_its_own():
    sealer = Sealer(b"k" * 32)
    before = sealer.seal(b"x", b"here")
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, sealer.seal(b"y", b"here"))
        os._exit(0)
    os.wait()
    theirs = os.read(reader, 1000)
    os.close(reader)
    os.close(writer)
    assert theirs[:16] != before[:16]
    assert sealer.open(theirs, b"here") == b"y"


# -- pools ---------------------------------------------------------------------------------------------------------------


def _wait_for(event):
    event.wait()
    return "waited"


def _named_cleartextmark(x):
    return x


def _raise_it(x):
    raise ValueError(x)


@pytest.fixture
def busy(server, owner):
    """A pool of one worker that waits; what is submitted now stands in the line. busy.go() lets it work."""

    class Busy:
        def __init__(self):
            self.event = cloudpool.Event()
            self.pool = cloudpool.get_context("fork").Pool(1)
            self.first = self.pool.apply_async(_wait_for, (self.event,))
            self.tasks = self.pool._inqueue
            self.line = self.tasks._base + "tasks"
            while not owner.call("EXISTS", f"{self.tasks._base}state"):
                pass
            self.until(lambda: not owner.call("LLEN", self.line))

        def until(self, what):
            turns = threading.Event()
            for _ in range(3000):
                if what():
                    return
                turns.wait(0.01)
            raise AssertionError("it has not come to that")

        def submit(self, function, *args):
            there = owner.call("LLEN", self.line)
            result = self.pool.apply_async(function, args)
            self.until(lambda: owner.call("LLEN", self.line) > there)
            return result

        def go(self):
            self.event.set()

    made = Busy()
    yield made
    made.go()
    made.pool.terminate()
    made.pool.join()


def head(element):
    """A task up to its mode, and its payload."""
    at = 0
    for _ in range(4):
        at = element.index(b" ", at) + 1
    return element[: at + 1], element[at + 1 :]


@only_tcp
class TestPool:
    def test_a_forged_task_is_refused(self, busy, owner, bomb):
        result = busy.submit(abs, -1)
        start, _ = head(owner.read(busy.line, 0))
        owner.write(busy.line, 0, start + b"p" + bomb)
        busy.go()
        with pytest.raises(AuthenticationError):
            result.get(30)
        assert busy.first.get(30) == "waited"

    def test_arguments_of_another_task_are_refused(self, busy, owner):
        results = [busy.submit(abs, -1), busy.submit(abs, -2)]
        elements = [owner.read(busy.line, n) for n in (0, 1)]
        for n in (0, 1):
            owner.write(busy.line, n, head(elements[n])[0] + head(elements[1 - n])[1])
        busy.go()
        for result in results:
            with pytest.raises(AuthenticationError):
                result.get(30)

    def test_another_function_is_refused(self, busy, owner):
        results = [busy.submit(abs, -1), busy.submit(len, "abc")]
        functions = busy.tasks._base + "functions"
        tokens = [owner.read(busy.line, n).split(b" ")[1] for n in (0, 1)]
        messages = [owner.read(functions, token) for token in tokens]
        owner.write(functions, tokens[0], messages[1])
        owner.write(busy.line, 1, owner.read(busy.line, 1).replace(tokens[1], tokens[0], 1))
        busy.go()
        for result in results:
            with pytest.raises(AuthenticationError):
                result.get(30)

    def test_a_forged_function_is_refused(self, busy, owner, bomb):
        result = busy.submit(abs, -1)
        token = owner.read(busy.line, 0).split(b" ")[1]
        owner.write(busy.tasks._base + "functions", token, b"p" + bomb)
        busy.go()
        with pytest.raises(AuthenticationError):
            result.get(30)

    def test_a_repeated_task_does_not_run_twice_in_a_worker(self, busy, owner):
        seen = cloudpool.Value("i")
        result = busy.submit(_count, seen)
        owner.call("RPUSH", busy.line, owner.read(busy.line, 0))
        after = busy.submit(abs, -3)
        busy.go()
        assert result.get(30) == 1
        assert after.get(30) == 3
        assert seen.value == 1

    def test_what_is_no_task_fails_the_pool_instead_of_leaving_its_caller_waiting(self, busy, owner, capfd):
        result = busy.submit(abs, -1)
        owner.write(busy.line, 0, b"nonsense")
        busy.go()
        with pytest.raises(AuthenticationError):
            result.get(30)

    @pytest.mark.parametrize("status", [b"+", b"-", b"s", b"x", b"k"])
    def test_a_forged_result_is_refused(self, busy, owner, bomb, status):
        id = b"%d.0" % busy.first._job
        owner.call("RPUSH", busy.tasks._base + "results", id + b" " + status + b"p" + bomb)
        if status == b"k":  # it says that the root has kept the result itself: nothing is to be read
            busy.go()
            assert busy.first.get(30) == "waited"
            return
        with pytest.raises(AuthenticationError):
            busy.first.get(30)

    def test_a_forged_word_to_the_root_is_refused(self, busy, owner, bomb):
        owner.call("RPUSH", busy.tasks._base + "results", b"! ip" + bomb)
        with pytest.raises(AuthenticationError):
            busy.first.get(30)

    def test_a_result_of_another_task_and_another_status_are_refused(self, busy, owner):
        other = busy.submit(abs, -1)
        id, other_id = (b"%d.0" % result._job for result in (busy.first, other))
        message = busy.tasks.pack_result("forged", other_id, b"+")
        owner.call("RPUSH", busy.tasks._base + "results", id + b" +" + message, other_id + b" -" + message)
        for result in (busy.first, other):
            with pytest.raises(AuthenticationError):
                result.get(30)

    def test_a_task_that_was_shown_to_two_workers_has_one_result(self, busy, owner):
        both = busy.pool.map_async(_named_cleartextmark, ["a", "b"], 1)
        id, results = b"%d.0" % both._job, busy.tasks._base + "results"
        for _ in range(2):
            owner.call("RPUSH", results, id + b" +" + busy.tasks.pack_result(["a"], id, b"+"))
        busy.go()
        assert both.get(30) == ["a", "b"]

    def test_a_repeated_result_is_refused(self, busy, owner):
        both = busy.pool.map_async(_named_cleartextmark, ["a", "b"], 1)
        message = busy.tasks.pack_result(["a"], b"%d.0" % both._job, b"+")
        owner.call("RPUSH", busy.tasks._base + "results", *[b"%d.0 +%b" % (both._job, message)] * 2)
        with pytest.raises(AuthenticationError):
            both.get(30)


def _count(seen):
    seen.value += 1
    return seen.value


# -- nothing in the clear ---------------------------------------------------------------------------------------------


class Structure_cleartextmark(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int),)


def _say_mark(queue):
    queue.put(MARK)


@only_tcp
def test_no_cleartext_stands_in_the_server_or_passes_through_it(server, monitor, store):
    ctx = cloudpool.get_context("fork")
    monitor.skip()
    manager = ctx.Manager()
    queues = [ctx.Queue(), ctx.Queue(5), ctx.JoinableQueue(), ctx.SimpleQueue(), manager.Queue()]
    for queue in queues:
        queue.put(MARK)
        queue.put({MARK: [MARK]})
        assert queue.get() == MARK
    ours, theirs = ctx.Pipe()
    ours.send(MARK)
    ours.send_bytes(MARK.encode())
    theirs.send(MARK)
    mapping = manager.dict({MARK: MARK, (1, MARK): 1, MARK.encode(): 2, frozenset([MARK]): 3})
    mapping[MARK + "2"] = mapping.pop(MARK)
    assert set(mapping.keys()) == {MARK + "2", (1, MARK), MARK.encode(), frozenset([MARK])}
    shared = manager.list([MARK, MARK + "2"])
    shared.remove(MARK)
    assert shared.index(MARK + "2") == 0
    assert MARK + "2" in shared
    shared.insert(0, MARK)
    shared[:] = [MARK, *shared]
    shared.sort()
    namespace = manager.Namespace(**{MARK: MARK})
    setattr(namespace, MARK + "2", getattr(namespace, MARK))
    delattr(namespace, MARK)
    value = manager.Value(MARK, MARK)
    letters = manager.Array("b", MARK.encode())
    letters[0:3], letters[3] = letters[0:3], letters[3]
    blocks = [
        ctx.Value(Structure_cleartextmark),
        ctx.Array(Structure_cleartextmark, 3),
        ctx.Array("c", MARK.encode()),
    ]
    memory = shared_memory.SharedMemory(MARK, create=True, size=100)
    memory.buf[: len(MARK)] = MARK.encode()
    child = ctx.Process(target=_say_mark, args=(queues[0],), name=MARK)
    child.start()
    child.join()
    with ctx.Pool(2, initializer=_named_cleartextmark, initargs=(MARK,)) as pool:
        assert pool.map(_named_cleartextmark, [MARK] * 20) == [MARK] * 20
        assert list(pool.imap_unordered(_named_cleartextmark, [MARK] * 3)) == [MARK] * 3
        with pytest.raises(ValueError, match=MARK):
            pool.apply(_raise_it, (MARK,))
        left = pool.map_async(_named_cleartextmark, [MARK] * 3)
        left.wait()
    pool.join()
    dump = {key: everything(store, key) for key in store.call("KEYS", "*")}
    assert len(dump) > 15
    assert [key for key, content in dump.items() if MARK.encode() in key + content] == []
    passed = monitor.skip()
    assert len(passed) > 100
    assert [line for line in passed if MARK in line] == []
    memory.close()
    memory.unlink()
    del blocks, value, letters


def everything(store, key):
    kind = store.call("TYPE", key)
    read = {
        b"list": ("LRANGE", key, 0, -1), b"hash": ("HGETALL", key), b"string": ("GET", key), b"set": ("SMEMBERS", key),
        b"stream": ("XRANGE", key, "-", "+"),
    }  # fmt: skip
    found = store.call(*read[kind]) if kind in read else b""
    return repr(found).encode() if not isinstance(found, bytes) else found


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_nothing_is_sealed_on_the_embedded_server(server, owner):
    queue = cloudpool.Queue()
    queue.put(MARK)
    assert queue.qsize() == 1
    assert sessions.current().sealer is None
    assert sessions.current().info.key == b""
    assert MARK.encode() in owner.read(queue._items._base + "items", 0)
    assert queue.get() == MARK


# -- the sealer itself ----------------------------------------------------------------------------------------------------


def test_two_processes_with_the_key_understand_each_other_and_no_other_does():
    one, other, stranger = Sealer(b"k" * 32), Sealer(b"k" * 32), Sealer(b"K" * 32)
    message = one.seal(b"secret", b"here", b"clear ")
    assert message.startswith(b"clear ")
    assert b"secret" not in message
    assert other.open(message, b"here", 6) == b"secret"
    for where, clear, reader in ((b"there", 6, other), (b"here", 5, other), (b"here", 6, stranger)):
        with pytest.raises(AuthenticationError):
            reader.open(message, where, clear)
    assert one.hide(b"name", b"here") == other.hide(b"name", b"here")
    assert other.show(one.hide(b"name", b"here"), b"here") == b"name"
    assert one.hide(b"name", b"here") != one.hide(b"name", b"there")
    assert one.digest(b"x", 12) != stranger.digest(b"x", 12)


def test_no_number_of_a_sender_comes_twice_whatever_threads_seal():
    sealer, headers = Sealer(b"k" * 32), []

    def seal():
        headers.extend([sealer.seal(b"", b"")[:24] for _ in range(2000)])

    threads = [threading.Thread(target=seal) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(headers)) == 16000


def test_numbers_in_any_order_are_remembered_and_those_in_order_cost_nothing():
    import random

    numbers, order = Seen(), list(range(3000))
    random.Random(5).shuffle(order)
    assert all(numbers.add(n) for n in order)
    assert not any(numbers.add(n) for n in order)
    assert len(numbers._words) == 1  # the last, which is not full
    assert numbers.add(2**64 - 1)
    assert not numbers.add(2**64 - 1)


def test_a_message_is_read_once_and_the_payload_stays_what_it_was(server):
    session = sessions.current()
    for obj in (None, "x" * 100, b"x" * 100_000, [1, {"a": 2}]):
        message = payload.pack(obj, session, b"test item")
        assert payload.unpack(message, session, b"test item") == obj
        payload.discard(message, session)
