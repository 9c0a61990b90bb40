"""Primitives between this machine and two far hosts: what is put on one is got on another, in order, once."""

from __future__ import annotations

import hashlib
import os
import queue as stdlib_queue
import threading
from collections import Counter
from multiprocessing import connection

import pytest
from far_hosts import once
from waiting import ended_well

import cloudpool
from cloudpool.host import session as sessions

BIG = 50 * 2**20


def produce(queue, number, count):
    for n in range(count):
        queue.put((number, n))


def consume(queue, results):
    got = []
    while (item := queue.get()) is not None:
        got.append(item)
    results.put(got)


def test_queue_between_hosts_loses_and_doubles_nothing(far, start):
    queue, results = far.Queue(5), far.Queue()
    producers = [start(produce, queue, n, 50) for n in range(3)]
    consumers = [start(consume, queue, results) for _ in range(3)]
    ended_well(*producers)
    for _ in consumers:
        queue.put(None)
    got = [results.get(timeout=60) for _ in consumers]
    assert sorted(item for items in got for item in items) == [(n, i) for n in range(3) for i in range(50)]
    for items in got:
        for n in range(3):
            mine = [i for number, i in items if number == n]
            assert mine == sorted(mine)
    ended_well(*consumers)


def big(seed):
    return hashlib.shake_128(str(seed).encode()).digest(2**20) * (BIG // 2**20)


def echo(inwards, outwards):
    outwards.put(inwards.get())


def test_fifty_megabytes_go_there_and_come_back(far, start):
    inwards, between, outwards = far.Queue(), far.Queue(), far.Queue()
    processes = [start(echo, inwards, between), start(echo, between, outwards)]
    item = big(1)
    inwards.put(item)
    assert outwards.get(timeout=60) == item
    ended_well(*processes)


def work(tasks):
    while True:
        item = tasks.get()
        tasks.task_done()
        if item is None:
            return


def test_joinable_queue(far, start):
    tasks = far.JoinableQueue()
    processes = [start(work, tasks) for _ in range(4)]
    for n in range(40):
        tasks.put(n)
    tasks.join()
    for _ in processes:
        tasks.put(None)
    ended_well(*processes)


def count_up(lock, value, times):
    for _ in range(times):
        with lock:
            before = value.value
            value.value = before + 1


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_mutual_exclusion(far, start, name):
    lock = getattr(far, name)()
    value = far.Manager().Value("i", 0)
    ended_well(*(start(count_up, lock, value, 20) for _ in range(4)))
    assert value.value == 80


def await_and_tell(event, condition, state, results):
    event.wait()
    with condition:
        condition.wait_for(lambda: state["go"], timeout=60)
    results.put(os.getpid())


def test_event_and_condition(far, start):
    event, condition, state, results = far.Event(), far.Condition(), far.Manager().dict(go=False), far.Queue()
    processes = [start(await_and_tell, event, condition, state, results) for _ in range(4)]
    event.set()
    with condition:
        state["go"] = True
        condition.notify_all()
    assert {results.get(timeout=60) for _ in processes} == {p.pid for p in processes}
    ended_well(*processes)


def meet(barrier, results):
    for phase in range(3):
        barrier.wait()
        results.put(phase)
        barrier.wait()


def test_barrier_of_more_than_there_is_room_for(far, start):
    """20 processes on two hosts of two slots: nothing waits for room that will not come."""
    barrier, results = far.Barrier(21), far.Queue()
    processes = [start(meet, barrier, results) for _ in range(20)]
    for phase in range(3):
        barrier.wait(60)
        barrier.wait(60)
        assert [results.get(timeout=60) for _ in processes] == [phase] * 20
    ended_well(*processes)


def pass_barrier(barrier, results):
    barrier.wait()
    results.put(sessions.current().process.partition(".")[0])


@once
def test_barrier_of_two_hundred_on_eight_hosts_of_two_slots(session):
    far = session(TEST_HOSTS=8, TEST_SLOTS=2)
    barrier, results = far.Barrier(200), far.Queue()
    processes = [far.Process(target=pass_barrier, args=(barrier, results)) for _ in range(200)]
    for process in processes:
        process.start()
    shares = Counter(results.get(timeout=90) for _ in processes)
    ended_well(*processes)
    assert len(shares) == 8
    assert max(shares.values()) <= 2 * min(shares.values())


def talk(connection):
    while True:
        try:
            item = connection.recv()
        except EOFError:
            connection.close()
            return
        connection.send(item)
        connection.send_bytes(b"%d" % len(str(item)))


def test_pipe_and_its_end(far, start):
    here, there = far.Pipe()
    process = start(talk, there)
    there.close()
    for item in (1, "two", {"three": [3]}):
        here.send(item)
        assert here.recv() == item
        assert here.recv_bytes() == b"%d" % len(str(item))
    here.close()
    ended_well(process)


def say_and_go(connection):
    connection.send("last")


def test_pipe_ends_with_the_far_process_that_had_it(far, start):
    here, there = far.Pipe()
    process = start(say_and_go, there)
    there.close()
    assert here.recv() == "last"
    with pytest.raises(EOFError):
        here.recv()
    ended_well(process)


def pass_on(connection, queue):
    inner, outer = cloudpool.Pipe()
    queue.put(outer)
    connection.send(inner)
    assert queue.get(timeout=60) == "done"


def use(connection, text):
    connection.send(text)
    assert connection.recv() == text[::-1]


def answer(connection):
    connection.send(connection.recv()[::-1])


def test_handles_that_travel_in_messages(far, start):
    """Made on one far host, sent home by queue and pipe, and from here to another."""
    queue = far.Queue()
    here, there = far.Pipe()
    maker = start(pass_on, there, queue)
    outer, inner = queue.get(timeout=60), here.recv()
    pair = [start(use, outer, "text"), start(answer, inner)]
    ended_well(*pair)
    queue.put("done")
    ended_well(maker)


def speak_by_turns(connection, queue, barrier):
    barrier.wait()
    connection.send("pipe")
    queue.put("queue")


def test_wait_over_pipes_queues_and_sentinels(far, start):
    here, there = far.Pipe()
    queue, barrier = far.Queue(), far.Barrier(2)
    process = start(speak_by_turns, there, queue, barrier)
    assert cloudpool.connection.wait([here, queue._reader, process.sentinel], 0) == []
    barrier.wait()
    seen = set()
    while len(seen) < 3:
        for ready in cloudpool.connection.wait([here, queue._reader, process.sentinel], 60):
            seen.add(ready)
            if ready is here and here.poll():
                assert here.recv() == "pipe"
            elif ready is queue._reader:
                assert queue.get() == "queue"
    assert connection.wait([process.sentinel], 0)


def change(shared, listed, space):
    me = os.getpid()
    shared[me] = list(range(5))
    listed.append(me)
    space.last = me


def test_managers_containers(far, start):
    manager = far.Manager()
    shared, listed, space = manager.dict(), manager.list(), manager.Namespace()
    processes = [start(change, shared, listed, space) for _ in range(4)]
    ended_well(*processes)
    pids = {p.pid for p in processes}
    assert dict(shared) == {pid: list(range(5)) for pid in pids}
    assert set(listed) == pids
    assert space.last in pids


def give_up(queue):
    try:
        queue.get(timeout=0.01)
    except stdlib_queue.Empty:
        queue.put("empty")


def test_timeouts(far, start):
    queue = far.Queue()
    process = start(give_up, queue)
    ended_well(process)
    assert queue.get(timeout=60) == "empty"


def test_one_queue_and_lock_for_local_and_far_processes_at_once(far, fork, start):
    queue, results = fork.Queue(), fork.Queue()
    local = fork.Process(target=consume, args=(queue, results))
    local.start()
    remote = [start(consume, queue, results) for _ in range(2)]
    for n in range(60):
        queue.put(n)
    for _ in range(3):
        queue.put(None)
    assert sorted(item for _ in range(3) for item in results.get(timeout=60)) == list(range(60))
    ended_well(local, *remote)


def from_a_thread(queue):
    threads = [threading.Thread(target=queue.put, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_of_a_far_process(far, start):
    queue = far.Queue()
    ended_well(start(from_a_thread, queue))
    assert sorted(queue.get(timeout=60) for _ in range(4)) == [0, 1, 2, 3]
