"""What cannot be imported goes by value; what pickle refuses for another reason is refused in pickle's words."""

import array
import os
import pickle
import socket
import subprocess
import sys
import threading
from functools import partial
from multiprocessing.reduction import ForkingPickler

import cloudpickle
import pytest
from needed import needed

from cloudpool import serialize


def refusal(dumps, obj):
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)) as raised:
        dumps(obj)
    return raised.type, str(raised.value)


DATA = {
    "file": partial(open, __file__, encoding="utf-8"),
    "binary file": partial(open, __file__, "rb"),
    "thread lock": threading.Lock,
    "thread": threading.Thread,
    "generator": lambda: (x for x in ()),
    "memoryview": lambda: memoryview(bytearray(2)),
    "frame": sys._getframe,
}


@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: ([1, {"a": x}],)], ids=["alone", "within"])
def test_data_is_refused_as_pickle_refuses_it(make, wrap):
    thing = make()
    try:
        expected = refusal(ForkingPickler.dumps, wrap(thing))
        assert expected[0] is TypeError
        assert refusal(serialize.dumps, wrap(thing)) == expected
    finally:
        getattr(thing, "close", lambda: None)()


def test_code_goes_by_value_with_what_it_contains():
    import dataclasses

    @dataclasses.dataclass
    class Local:
        x: int = 1

        @property
        def twice(self):
            return 2 * self.x

        @classmethod
        def new(cls):
            return cls(3)

    offset = 4
    f, made = serialize.loads(
        serialize.dumps((lambda: (Local.new().twice, offset, socket.AF_INET), Local(5)))
    )
    assert f() == (6, 4, socket.AF_INET)
    assert made.twice == 10


def test_code_that_holds_a_file_is_refused():
    with open(__file__, encoding="utf-8") as file:
        assert refusal(serialize.dumps, lambda: len(file.read()))[0] in (AttributeError, pickle.PicklingError)


class Marked:
    pass


@pytest.mark.parametrize("more", [(), (lambda: 1,)], ids=["by the C pickler", "by cloudpickle"])
def test_a_large_bytes_object_is_not_copied(more):
    large = bytes(1_000_000)
    pieces, _ = serialize.dumps_apart(["before", large, "after", *more], None)
    assert any(piece is large for piece in pieces)
    assert sum(map(len, pieces)) < 1_010_000
    assert serialize.loads(b"".join(pieces))[:3] == ["before", large, "after"]


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("most", [None, 1 << 16])
@pytest.mark.parametrize(
    "kind",
    [
        bytes,
        bytearray,
        lambda data: pickle.PickleBuffer(bytes(data)),
        lambda data: pickle.PickleBuffer(bytearray(data)),
        lambda data: array.array("B", data),
    ],
    ids=["bytes", "bytearray", "a buffer to read", "a buffer to write", "array"],
)
def test_sizes_around_what_the_pickler_hands_on_by_itself(kind, most, more):
    data = bytes(range(256)) * 256 + b"x"
    data = data[: (1 << 16) + more]
    pieces, apart = serialize.dumps_apart([kind(data), "after"], most)
    assert all(type(piece) is bytes for piece in pieces)
    there, after = serialize.loads(b"".join(pieces), apart)
    assert (bytes(there), after) == (data, "after")


def test_what_is_changed_after_it_was_pickled_is_as_it_was():
    data = bytearray(100_000)
    pieces, _ = serialize.dumps_apart(data, None)
    data[:] = b"changed"
    assert serialize.loads(b"".join(pieces)) == bytes(100_000)


def test_large_buffers_go_where_main_goes_by_value():
    program = """
from pickle import PickleBuffer
from cloudpool import serialize

class Own:
    large = 7

serialize.send_main_by_value()
own, buffer = serialize.loads(serialize.dumps((Own(), PickleBuffer(bytearray(100_000)))))
assert (own.large, len(buffer)) == (7, 100_000)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def of_arrays():
    np = needed("numpy")
    large = np.arange(100_000.0)
    read_only = large[:]
    read_only.flags.writeable = False
    return {
        "small": np.ones(10), "as large as is copied": np.zeros(125), "larger": np.zeros(126), "large": large,
        "read-only": read_only, "small read-only": np.frombuffer(bytes(80)), "in Fortran's order": np.ones((20, 30), order="F"),
        "every other": large[::2], "broadcast": np.broadcast_to(np.ones(3), (4, 3)), "scalar": np.array(7.5), "empty": np.zeros((0, 3)),
        "objects": np.array([{1: 2}, "x"], dtype=object), "records": np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]), "text": np.array(["ab", "c"]),
        "dates": np.array(["2026-11-22"], dtype="M8[D]"), "masked": np.ma.array([1, 2], mask=[0, 1]),
    }  # fmt: skip


@pytest.mark.parametrize("most", [None, 64 * 1024], ids=["within", "apart"])
@pytest.mark.parametrize("with_code", [False, True])
def test_arrays_arrive_as_the_stdlib_has_them_arrive(most, with_code):
    """Also those that may not be written to where they come from: a worker has its own."""
    for name, sent in of_arrays().items():
        pieces, apart = serialize.dumps_apart((sent, len, (lambda: 1) if with_code else 1), most)
        came = serialize.loads(b"".join(pieces), [bytearray(buffer) for buffer in apart])[0]
        expected = pickle.loads(ForkingPickler.dumps(sent))
        assert type(came) is type(expected), name
        assert (came.dtype, came.shape, came.strides) == (expected.dtype, expected.shape, expected.strides), (
            name
        )
        assert came.tolist() == expected.tolist(), name
        assert (came.flags.writeable, came.flags.owndata) == (
            expected.flags.writeable,
            expected.flags.owndata,
        ), name


def test_a_large_array_is_not_copied():
    pieces, [buffer] = serialize.dumps_apart(of_arrays()["large"], 64 * 1024)
    assert buffer.raw().nbytes == 800_000
    assert sum(map(len, pieces)) < 1000


def test_a_programs_own_reduction_of_arrays_counts(monkeypatch):
    np = needed("numpy")
    monkeypatch.setitem(ForkingPickler._extra_reducers, np.ndarray, lambda array: (list, (array.tolist(),)))
    assert serialize.loads(serialize.dumps(np.ones(2))) == [1.0, 1.0]


def test_reductions_of_one_pickle_stay_in_it():
    """Others pickle by cloudpickle in the same process: dask, loky."""
    before = dict(cloudpickle.Pickler.dispatch_table)
    pieces, _ = serialize.dumps_apart((lambda: 1, Marked()), None, reducers={Marked: lambda _: (int, ("7",))})
    assert serialize.loads(b"".join(pieces))[1] == 7
    assert dict(cloudpickle.Pickler.dispatch_table) == before
    assert type(serialize.loads(serialize.dumps((lambda: 1, Marked())))[1]) is Marked
    assert type(cloudpickle.loads(cloudpickle.dumps(Marked()))) is Marked


def test_dill_by_setting():
    needed("dill")
    program = """
import socket, cloudpool
from cloudpool import serialize
lock = cloudpool.Lock()
ours, theirs = socket.socketpair()
with cloudpool.Pool(1) as pool:
    print(pool.apply(lambda a, lock: (a + 1, lock.acquire(False)), (1, lock)), lock.acquire(False))
    print(pool.apply(lambda s: s.send(b"sent"), (ours,)), theirs.recv(4))
print(serialize.dumps(lambda: 1).count(b"dill") > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CLOUDPOOL_SERIALIZER": "dill"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "(2, True) False\n4 b'sent'\nTrue\n"), done.stderr


def test_a_reduction_that_is_registered_later_counts_from_then_on():
    class Late:
        pass

    assert serialize.loads(serialize.dumps(7)) == 7
    ForkingPickler.register(Late, lambda _: (int, ("7",)))
    try:
        assert serialize.loads(serialize.dumps(Late())) == 7
    finally:
        del ForkingPickler._extra_reducers[Late]


class Number(int):
    pass


PLAIN = {
    "numbers": (0, -(2**70), 1.5, True, None),
    "text": ("é\ud800", b"\x00", ""),
    "a call": ((1, ("a", 2)), {}),
}


@pytest.mark.parametrize("obj", PLAIN.values(), ids=PLAIN)
def test_plain_data_is_pickled_as_ever(obj):
    pickled = serialize.dumps_plain(obj)
    assert pickled == serialize.dumps(obj)
    assert serialize.loads(pickled) == obj


def nested(depth):
    within = nested(depth - 1) if depth else 1
    return (within,) * 8


NOT_PLAIN = {
    "a subclass, which may have a reduction": Number(1),
    "one within": (1, (Number(1),)),
    "a list, which another thread may change meanwhile": [1],
    "keywords": ((1,), {"a": 1}),
    "complex, which has one": 1j,
    "long text": "x" * 100_000,
    "many items": tuple(range(100)),
    "a few, but many within them": nested(30),
}


@pytest.mark.parametrize("obj", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_other_data_goes_the_way_of_reductions(obj):
    assert serialize.dumps_plain(obj) is None
