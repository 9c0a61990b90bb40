"""Value, Array and their raw forms."""

import ctypes
import gc
import multiprocessing
import os
import pickle
from multiprocessing import sharedctypes as stdlib

import numpy as np
import pytest

from cloudpool import sharedctypes
from cloudpool.host import session as sessions


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Word(ctypes.Union):
    _fields_ = (("number", ctypes.c_uint32), ("bytes", ctypes.c_ubyte * 4))


def registered():
    session = sessions.current()
    return {i.decode() for i in session.channel().call("HKEYS", session.keys.objects)}


def agent_settled():
    gc.collect()
    for _ in range(2):
        sessions.current()._ask("settle")


def run(ctx, function, *args):
    process = ctx.Process(target=function, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0


def _add(value, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def test_increments_under_the_lock_are_not_lost(ctx):
    value = ctx.Value("i", 5)
    processes = [ctx.Process(target=_add, args=(value, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert value.value == 155


def _change_all(value, array, raw, string, point, word):
    value.value = 2**40
    array[1:8:3] = [-1, -2, -3]
    raw[-1] = 0.5
    string.value = string.value + b"!"
    point.x, point.y = point.x + 1, point.y * 2
    with word:
        word.get_obj().bytes[0] = 255


def test_every_kind_is_seen_and_changed_by_a_process(ctx):
    value = ctx.Value(ctypes.c_longlong, 0)
    array = ctx.Array("i", range(10))
    raw = ctx.RawArray("d", 100_000)
    string = ctx.Array("c", b"hello.....")
    string.value = b"hello"
    point = ctx.Value(Point, 1, 1.5)
    word = ctx.Value(Word, 0)
    run(ctx, _change_all, value, array, raw, string, point, word)
    assert value.value == 2**40
    assert array[:] == [0, -1, 2, 3, -2, 5, 6, -3, 8, 9]
    assert array[::-4] == [9, 5, -1]
    assert raw[-1] == 0.5
    assert string.value == b"hello!"
    assert string.raw == b"hello!\0..."
    assert (point.x, point.y) == (2, 3.0)
    assert word.number == 255


def _fill_points(array, queue):
    np.frombuffer(array.get_obj())[:] = np.arange(len(array))
    raw = queue.get()
    raw[0].x = 42
    queue.put((raw, array))


def test_objects_travel_in_messages_and_numpy_writes_through(ctx):
    array, queue = ctx.Array("d", 10_000), ctx.Queue()
    mine = np.frombuffer(array.get_obj())
    raw = ctx.RawArray(Point, 3)
    queue.put(raw)
    run(ctx, _fill_points, array, queue)
    returned_raw, returned_array = queue.get(timeout=30)
    assert (mine == np.arange(10_000)).all()
    assert (raw[0].x, returned_raw[0].x) == (42, 42)
    mine[7] = -7
    assert returned_array[7] == -7


def test_memory_lives_as_long_as_a_view_of_it(ctx):
    array = ctx.Array("d", 10_000)
    block = array.get_obj()._wrapper.block._id
    view = np.frombuffer(array.get_obj())
    del array
    agent_settled()
    assert block in registered()
    view[:] = 1
    assert view.sum() == 10_000
    del view
    agent_settled()
    assert block not in registered()


def test_creations_arrive_at_the_server(ctx):
    ctx.RawValue("i")  # there is an arena
    agent_settled()
    before = registered()
    kept = [ctx.RawValue("i"), ctx.RawArray("d", 5), ctx.RawArray("d", 5000), sharedctypes.copy(Point(1, 2))]
    assert len(registered() - before) == len(kept)
    kept += [ctx.Value("i", lock=False), ctx.Array("i", 3, lock=False)]
    assert len(registered() - before) == len(kept)


def test_copy_is_shared_and_apart_from_its_original(ctx):
    original = Point(3, 4.5)
    copied = sharedctypes.copy(original)
    original.x = 0
    run(ctx, _double, copied)
    assert (copied.x, copied.y) == (6, 4.5)


def _double(point):
    point.x *= 2


def test_wrappers_are_the_stdlibs(ctx):
    assert isinstance(ctx.Value("i"), stdlib.Synchronized)
    assert isinstance(ctx.Array("i", 2), stdlib.SynchronizedArray)
    assert isinstance(ctx.Array("c", 2), stdlib.SynchronizedString)
    assert isinstance(ctx.Value(Point), stdlib.SynchronizedBase)
    with pytest.raises(AssertionError, match="already synchronized"):
        sharedctypes.synchronized(stdlib.Value("i"))


def test_lock_is_the_one_given(ctx):
    lock = ctx.Lock()
    value = ctx.Value("d", 1.5, lock=lock)
    assert value.get_lock() is lock
    with value:
        assert not lock.acquire(block=False)
    assert sharedctypes.synchronized(value.get_obj()).get_lock().acquire(block=False)
    assert type(ctx.Value("d", lock=False)) is ctypes.c_double
    assert type(ctx.Array("d", 2, lock=False)) is ctypes.c_double * 2


def test_bad_arguments_are_refused_as_the_stdlib_does(ctx):
    for make in (ctx.Value, ctx.RawValue):
        with pytest.raises(TypeError):
            make("no such type")
        with pytest.raises(TypeError):
            make("i", "text")
    for make in (ctx.Array, ctx.RawArray):
        with pytest.raises(TypeError):
            make("no such type", 3)
        with pytest.raises(TypeError):
            make("i", 1.5)
        with pytest.raises(ValueError, match=">= 0"):
            make("i", -1)
    with pytest.raises(AttributeError, match="'acquire'"):
        ctx.Value("i", lock="no lock")
    assert ctx.Array("i", 0)[:] == []


def test_plain_pickle_shares_a_wrapper_and_refuses_a_bare_object(ctx):
    array = ctx.Array("i", [1, 2, 3])
    again = pickle.loads(pickle.dumps(array))
    again[0] = 10
    assert array[0] == 10
    with pytest.raises(RuntimeError, match="private copy"):
        pickle.dumps(ctx.RawValue(Point))


def _is(number, expected):
    assert number.value == expected


def test_private_objects_of_a_shared_type_travel_by_value(ctx):
    ctx.RawValue("i")
    run(ctx, _is, ctypes.c_int(7), 7)


def test_the_stdlibs_own_objects_still_work_beside_ours(ctx):
    theirs = multiprocessing.get_context("spawn").RawValue("i", 3)
    ctx.RawValue("i")
    run(multiprocessing.get_context("spawn"), _is, theirs, 3)


def hold_and_die(value):
    value.get_lock().acquire()
    os._exit(1)


@pytest.mark.parametrize("typecode", ["i", Point], ids=["Value", "Structure"])
def test_value_of_a_holder_that_died_can_be_used_after_a_warning(ctx, typecode):
    """Its properties are made by the stdlib's exec, whose code belongs to no module."""
    value = ctx.Value(typecode)
    name = "value" if typecode == "i" else "x"
    process = ctx.Process(target=hold_and_die, args=(value,))
    process.start()
    process.join()
    with pytest.warns(RuntimeWarning, match=f"Process {process.pid} died while it held") as caught:
        setattr(value, name, 5)
    assert caught[0].filename == __file__
    assert getattr(value, name) == 5
