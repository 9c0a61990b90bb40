"""Shared memory on several hosts: a program that synchronizes properly gets what it gets on one.

Litmus tests, each many times over; a randomized checker against a model; what the log of changes costs.
"""

from __future__ import annotations

import ctypes
import gc
import operator
import os
import random
import time
from contextlib import closing
from functools import partial

import pytest
from needed import needed
from waiting import ended_well, until

import cloudpool
from cloudpool.host import folder as folders, session as sessions
from cloudpool.host.blocks import ALL
from cloudpool.shared_memory import ShareableList, SharedMemory
from cloudpool.store.wire import open_unix, open_url

np = needed("numpy")


def host():
    return sessions.current().process.split(".")[0]


def tell_host(barrier, queue):
    barrier.wait()
    queue.put(host())


def test_two_processes_are_on_two_hosts(far, start):
    """What the tests below count on: the least loaded host gets the next."""
    barrier, queue = far.Barrier(2), far.Queue()
    ended_well(*(start(tell_host, barrier, queue) for _ in range(2)))
    assert len({queue.get(), queue.get(), host()}) == 3


# -- litmus tests -------------------------------------------------------------------------------------------------------


def pass_message(me, data, queue, answers, times):
    """Message passing: who has got the message sees what was written before it was sent."""
    for n in range(1, times + 1):
        if me == 0:
            data[0] = data[-1] = n
            queue.put(n)
            assert answers.get() == n
        else:
            assert queue.get() == n
            assert (data[0], data[-1]) == (n, n), (data[0], data[-1], n)
            answers.put(n)


def test_message_passing_by_queue(far, start):
    data = far.RawArray("q", 3000)
    queue, answers = far.Queue(), far.Queue()
    ended_well(*(start(pass_message, me, data, queue, answers, 30) for me in (0, 1)))
    assert data[0] == data[-1] == 30


@pytest.mark.parametrize("sender", [0, 1])
def test_message_passing_with_a_forked_process(far, start, fork, sender):
    """It has inherited the block, and nothing else tells it that others have it."""
    data = far.RawArray("q", 3000)
    queue, answers = far.Queue(), far.Queue()
    there = start(pass_message, 1 - sender, data, queue, answers, 30)
    here = start(pass_message, sender, data, queue, answers, 30, by=fork)
    ended_well(there, here)


def store_and_load(me, mine, others, barrier, times, results):
    """Store buffering: with a barrier between, both see the other's store."""
    for n in range(1, times + 1):
        mine.value = n
        barrier.wait()
        results.put((me, n, others.value))
        barrier.wait()


def test_store_buffering_over_a_barrier(far, start):
    x, y = far.RawValue("i"), far.RawValue("i")
    barrier, results = far.Barrier(2), far.Queue()
    pair = [
        start(store_and_load, 0, x, y, barrier, 15, results),
        start(store_and_load, 1, y, x, barrier, 15, results),
    ]
    ended_well(*pair)
    assert sorted(results.get() for _ in range(30)) == [(me, n, n) for me in (0, 1) for n in range(1, 16)]


def write_own_bytes(me, count, data, barrier, times):
    """False sharing: byte by byte beside each other, on one page and one cache line, without a lock."""
    for n in range(1, times + 1):
        for i in range(me, len(data), count):
            data[i] = (n + i) % 256
        barrier.wait()
        assert list(data) == [(n + i) % 256 for i in range(len(data))]
        barrier.wait()


def test_two_hosts_write_bytes_of_one_page(far, start):
    data, barrier = far.RawArray("B", 64), far.Barrier(4)
    ended_well(*(start(write_own_bytes, me, 4, data, barrier, 10) for me in range(4)))


def hand_over(value, array, times):
    for _ in range(times):
        with value.get_lock():
            assert all(x == value.value for x in array)
            value.value += 1
            for i in range(len(array)):
                array[i] = value.value


def test_lock_that_is_handed_over(far, start, fork):
    value, array = far.Value("i"), far.RawArray("i", 10)
    processes = [start(hand_over, value, array, 25) for _ in range(4)]
    processes.append(start(hand_over, value, array, 25, by=fork))
    ended_well(*processes)
    assert value.value == 125
    assert list(array) == [125] * 10


def step(me, count, cells, barrier, steps):
    """A ring of cells in phases: each from its neighbours' of the phase before."""
    for _ in range(steps):
        left, right = cells[me - 1], cells[(me + 1) % count]
        barrier.wait()
        cells[me] = (left + right) % 10007
        barrier.wait()


def test_phases_between_barriers(far, start):
    count, steps = 4, 8
    cells, barrier = far.RawArray("l", [n + 1 for n in range(count)]), far.Barrier(count)
    ended_well(*(start(step, me, count, cells, barrier, steps) for me in range(count)))
    model = [n + 1 for n in range(count)]
    for _ in range(steps):
        model = [(model[n - 1] + model[(n + 1) % count]) % 10007 for n in range(count)]
    assert list(cells) == model


def raise_flag(event, data, semaphore):
    data[0] = 1
    event.set()
    semaphore.acquire()
    assert data[1] == 2


def test_event_and_semaphore_carry_what_was_written(far, start):
    event, data, semaphore = far.Event(), far.RawArray("i", 2), far.Semaphore(0)
    process = start(raise_flag, event, data, semaphore)
    assert event.wait(60)
    assert data[0] == 1
    data[1] = 2
    semaphore.release()
    ended_well(process)


def notify(condition, data):
    with condition:
        data[0] = 7
        condition.notify()


def test_condition_and_pipe_carry_what_was_written(far, start):
    condition, data = far.Condition(), far.RawArray("i", 2)
    with condition:
        process = start(notify, condition, data)
        assert condition.wait_for(lambda: data[0] == 7, 60)
    ended_well(process)
    here, there = far.Pipe()
    data[1] = 8
    here.send("now")
    process = start(say_what_is_there, there, data)
    assert here.recv() == 8
    assert data[0] == 9
    ended_well(process)


def say_what_is_there(connection, data):
    connection.recv()
    data[0] = 9
    connection.send(data[1])


def fork_between(data, queue):
    data[0] = 1
    pid = os.fork()
    if pid == 0:
        data[1] = 2
        os._exit(0)
    os.waitpid(pid, 0)
    data[2] = 3
    queue.put("done")


def test_fork_in_between(far, start):
    data, queue = far.RawArray("i", 3), far.Queue()
    process = start(fork_between, data, queue)
    assert queue.get(timeout=60) == "done"
    assert list(data) == [1, 2, 3]
    ended_well(process)


def test_join_is_an_acquire_and_start_a_release(far, start):
    data = far.RawArray("i", 6)
    for n in range(6):
        data[n] = 100
        process = start(add_to, data, n)
        process.join(60)
        assert data[n] == 101


def add_to(data, n):
    assert data[n] == 100
    data[n] += 1


def wait_by_reading(flag, seen):
    while not flag.value:
        time.sleep(0.001)
    seen.value = flag.value


def test_flag_that_is_polled(far, start):
    flag, seen = far.Value("i", 0, lock=False), far.Value("i", 0, lock=False)
    process = start(wait_by_reading, flag, seen)
    event = far.Event()
    start(event.set).join(60)  # the other is on its way
    flag.value = 5
    while not seen.value:
        time.sleep(0.001)
    ended_well(process)


# -- a randomized checker ------------------------------------------------------------------------------------------------


class Side:
    """Two blocks as one: of what is written in a turn, some is in each, and both are seen by the next."""

    def __init__(self, *parts):
        self.parts = parts

    def __len__(self):
        return sum(map(len, self.parts))

    def place(self, slot):
        few, many = self.parts
        return (few, slot) if slot < len(few) else (many, slot - len(few))

    def __getitem__(self, slot):
        part, place = self.place(slot)
        return part[place]

    def __setitem__(self, slot, value):
        part, place = self.place(slot)
        part[place] = value


def random_writes(me, seed, data, owners, lock, times, log):
    """Under the lock: note what was there, and write something new. The notes, in the order of the lock, must be one history."""
    rng = random.Random(seed)
    for _ in range(times):
        with lock:
            number = owners[0]
            owners[0] += 1
            near = rng.choice([25, 100, len(data)])  # often where others write, too
            slots = sorted(rng.sample(range(near), rng.randint(1, 6)))
            before = [data[s] for s in slots]
            after = [rng.randrange(1, 2**31) for _ in slots]
            for slot, value in zip(slots, after, strict=True):
                data[slot] = value
        log.put((number, me, slots, before, after))


def check_random_writes(far, start_far, start_here, times):
    """Four far processes and one here, against a model that does one turn after the other."""
    seed = random.SystemRandom().randrange(2**31)
    print("seed", seed)
    data = Side(
        far.RawArray("i", 25), far.RawArray("i", 50_000)
    )  # one with others in an arena, one of many pages
    owners, lock, log = far.RawArray("i", 1), far.Lock(), far.Queue()
    arguments = data, owners, lock, times, log
    processes = [start_far(random_writes, me, seed + me, *arguments) for me in range(4)]
    processes.append(start_here(random_writes, 4, seed + 4, *arguments))
    notes = sorted(log.get(timeout=60) for _ in range(times * 5))
    ended_well(*processes)
    assert [number for number, *_ in notes] == list(range(times * 5))
    model = [0] * len(data)
    for number, me, slots, before, after in notes:
        assert [model[s] for s in slots] == before, (seed, number, me)
        for slot, value in zip(slots, after, strict=True):
            model[slot] = value
    assert [x for part in data.parts for x in part] == model


def test_random_writes_are_one_history(far, fork, start):
    check_random_writes(far, start, partial(start, by=fork), 40)


def test_random_writes_on_four_hosts_are_one_history(session, hosts):
    def start(method, target, *args):
        process = cloudpool.get_context(method).Process(target=target, args=args)
        process.start()
        return process

    far = session(TEST_HOSTS=4, TEST_SLOTS=1)
    check_random_writes(far, partial(start, "subprocess"), partial(start, "fork"), 40)
    assert len(hosts.agents()) == 4


# -- kinds of blocks -----------------------------------------------------------------------------------------------------


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_double))


def change_all(value, array, raw, points, text):
    with value.get_lock():
        value.value += 1.5
    array[1] = 20
    raw[:] = [n * n for n in range(len(raw))]
    points[0].x = 3.0
    text.value = b"there"


def test_values_arrays_structures(far, start):
    value, array, raw = far.Value("d", 1.0), far.Array("i", [1, 2, 3]), far.RawArray("l", 500)
    points, text = far.Array(Point, [(1.0, 2.0)] * 3), far.Array("c", 20)
    ended_well(start(change_all, value, array, raw, points, text))
    assert value.value == 2.5
    assert list(array) == [1, 20, 3]
    assert raw[20] == 400
    assert (points[0].x, points[0].y) == (3.0, 2.0)
    assert text.value == b"there"


def change_shared_memory(name, list_name):
    memory, listed = SharedMemory(name), ShareableList(name=list_name)
    view = np.ndarray((100, 100), dtype="f8", buffer=memory.buf)
    view *= 2
    view[5, 5] = -1
    listed[1] = "there"
    del view
    memory.close()
    listed.shm.close()


def test_shared_memory_by_name(far, start):
    memory = SharedMemory(create=True, size=80_000)
    listed = ShareableList(["a", "bbbbbbbb", 3])
    view = np.ndarray((100, 100), dtype="f8", buffer=memory.buf)
    view[:] = 1
    ended_well(start(change_shared_memory, memory.name, listed.shm.name))
    assert view.sum() == 2 * 9999 - 1
    assert list(listed) == ["a", "there", 3]
    del view
    for shm in (memory, listed.shm):
        shm.close()
        shm.unlink()


def sum_up(array, queue):
    view = np.frombuffer(array, dtype="u1")
    queue.put((host(), int(view.sum(dtype="u8"))))
    view[0] = 9


def test_thirty_megabytes(far, start):
    array, queue = far.RawArray("B", 30 * 2**20), far.Queue()
    np.frombuffer(array, dtype="u1")[:] = 1
    ended_well(*(start(sum_up, array, queue) for _ in range(2)))
    for _ in range(2):
        _, total = queue.get(timeout=60)
        assert total in (30 * 2**20, 30 * 2**20 + 8)
    assert array[0] == 9


def test_block_that_was_made_far_away(far, start):
    queue, answers = far.Queue(), far.Queue()
    process = start(both_queues, queue, answers)
    array = queue.get(timeout=60)
    assert array[7] == 77
    array[8] = 88
    answers.put(None)
    ended_well(process)
    assert array[9] == 99
    ended_well(start(look_at, array))


def both_queues(queue, answers):
    array = cloudpool.RawArray("i", 5000)
    array[7] = 77
    queue.put(array)
    answers.get()
    assert array[8] == 88
    array[9] = 99


def look_at(array):
    assert list(array[7:10]) == [77, 88, 99]


# -- what it costs -------------------------------------------------------------------------------------------------------


def touch(array, event, answers, places):
    for place in places:
        event.get()
        array[place] = 1
        answers.put(place)


def test_what_is_sent_is_proportional_to_what_was_changed(far, start):
    """A byte here and there of three megabytes: a few bytes each go into the log, not the page and not the block."""
    session = sessions.current()
    array, event, answers = far.RawArray("B", 3 * 2**20), far.Queue(), far.Queue()
    places = [n * 100_000 for n in range(20)]
    process = start(touch, array, event, answers, places)
    with closing(connect(session)) as store:
        event.put(0)
        answers.get(timeout=60)
        before = log_bytes(store, session)
        for _ in places[1:]:
            event.put(0)
            answers.get(timeout=60)
        sent = log_bytes(store, session) - before
    ended_well(process)
    assert 0 < sent < 200 * len(places)


def evaluate(noise, parameters, tasks, results):
    noise, parameters = np.frombuffer(noise, dtype="f8"), np.frombuffer(parameters.get_obj(), dtype="f8")
    while (at := tasks.get()) is not None:
        guess = parameters + 0.1 * noise[at : at + len(parameters)]
        results.put((at, float(-(guess**2).sum())))


def test_evolution_strategy_sends_the_bytes_that_it_changes(session):
    """A shared noise table and shared parameters on four hosts: a step changes some of the parameters, and that is what is sent."""
    far = session(TEST_HOSTS=4, TEST_SLOTS=1)
    noise, shared = far.RawArray("d", 200_000), far.Array("d", 4000)
    np.frombuffer(noise, dtype="f8")[:] = table = np.random.default_rng(7).standard_normal(200_000)
    parameters, tasks, results = np.frombuffer(shared.get_obj(), dtype="f8"), far.Queue(), far.Queue()
    workers = [far.Process(target=evaluate, args=(noise, shared, tasks, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    mine = sessions.current()
    with closing(connect(mine)) as store:
        store.call(
            "HSET", mine.keys.readers, 1_000_000, ALL
        )  # a host that has read nothing: all that is said is kept
        places = range(0, 160_000, 20_000)
        for many in (0, 4000, 0, 400, 40, 4, 0):
            before, logged = parameters.tobytes(), log_bytes(store, mine)
            with shared.get_lock():
                parameters[:many] += 0.01 * table[many : 2 * many]
            for at in places:
                tasks.put(at)
            found = dict(results.get(timeout=60) for _ in places)
            for at in places:
                assert found[at] == float(-((parameters + 0.1 * table[at : at + 4000]) ** 2).sum())
            changed = sum(map(operator.ne, before, parameters.tobytes()))
            # Beside each run of bytes stands its place, and most runs are one number's.
            assert changed <= log_bytes(store, mine) - logged <= 3 * changed + (200 if changed else 0), many
    for _ in workers:
        tasks.put(None)
    ended_well(*workers)


def connect(session):
    if session.info.redis_url:
        return open_url(session.info.redis_url)
    return open_unix(os.path.join(session.info.folder, folders.SERVER_SOCKET))


def log_bytes(store, session):
    return sum(len(fields[1]) for _, fields in store.call("XRANGE", session.keys.blocks, "-", "+"))


def share_one(me, first, second, go_on):
    if me == 0:
        array = cloudpool.RawArray("i", 3)
        first.put(array)
        second.get()
    else:
        array = first.get()
    array[me] = 1 + me
    second.put("written")
    go_on.wait()


def test_log_of_two_hosts_is_trimmed_though_home_has_no_block(session):
    far = session(lease_s=1, TEST_SLOTS=1)
    first, second, go_on = far.Queue(), far.Queue(), far.Event()
    processes = [far.Process(target=share_one, args=(me, first, second, go_on)) for me in (0, 1)]
    for process in processes:
        process.start()
    mine = sessions.current()
    with closing(connect(mine)) as store:
        until(lambda: store.call("XREVRANGE", mine.keys.blocks, "+", "-", "COUNT", 1))
        until(lambda: is_trimmed(store, mine))
    go_on.set()
    ended_well(*processes)


def write_one(array):
    array[5] = 1


def test_log_is_emptied_when_no_host_reads_it(session):
    far = session(lease_s=1, TEST_HOSTS=1)
    array = far.RawArray("i", 2**20)
    process = far.Process(target=write_one, args=(array,))
    process.start()
    ended_well(process)
    mine = sessions.current()
    with closing(connect(mine)) as store:
        assert store.call("XLEN", mine.keys.blocks) > 0
        del array, process
        gc.collect()
        until(lambda: not store.call("EXISTS", mine.keys.readers))
        until(lambda: store.call("XLEN", mine.keys.blocks) == 0)


def is_trimmed(store, session):
    """Down to what has been read last."""
    said = store.call("HVALS", session.keys.readers)
    return len(said) == 2 and store.call("XLEN", session.keys.blocks) == 1


def test_nothing_is_synchronized_while_nothing_is_spread(session):
    """Hosts there are, and no block is on two of them: a lock is what it always was, and the agent is not asked."""
    far = session()
    process = far.Process(target=abs, args=(-1,))
    process.start()
    ended_well(process)
    mine = sessions.current()
    value = far.Value("i")
    asked = []
    mine._ask = lambda *message: asked.append(message)
    for _ in range(10):
        with value.get_lock():
            value.value += 1
    del mine._ask
    assert asked == []
    assert value.value == 10
