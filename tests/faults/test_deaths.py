"""What a process holds, waits for or has under way when it dies goes on, and nobody waits for the dead.

Deaths at random times come from `chance`, whose seed is shown when a test fails; `--seed` runs one again.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import queue as stdlib_queue
import random
import signal
import threading
import time
import warnings

import numpy as np
import pytest

import cloudpool
from cloudpool.host import session as sessions
from cloudpool.store.channel import Channel

# 1 s is promised. The rest is for a machine that has other things to do: what is waited for is an event (slice_without_end).
PROMPTLY_S = 8


@pytest.fixture(autouse=True)
def slice_without_end(monkeypatch):
    """Who waits hears of a death from its reaping, by which it is woken: nobody comes to look again by itself."""
    monkeypatch.setattr(Channel, "SLICE_S", 1000.0)


@pytest.fixture
def chance(seed):
    return random.Random(seed)


@pytest.fixture
def fork(server):
    return cloudpool.get_context("fork")


@pytest.fixture
def ctx(fork):
    """What `start` starts by."""
    return fork


def inherit(lock):
    """Take a lock whose holder has died: within the bound, and warned."""
    with pytest.warns(RuntimeWarning, match="died while it held"):
        assert lock.acquire(timeout=PROMPTLY_S)
    lock.release()


def stop(process):
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


def is_dead(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


# -- locks --------------------------------------------------------------------------------------------------------------

LOCKS = {
    "Lock": lambda ctx: ctx.Lock(), "RLock": lambda ctx: ctx.RLock(), "Semaphore": lambda ctx: ctx.Semaphore(1),
    "BoundedSemaphore": lambda ctx: ctx.BoundedSemaphore(1), "Condition": lambda ctx: ctx.Condition(),
    "Manager().Lock": lambda ctx: ctx.Manager().Lock(),
}  # fmt: skip
ENDS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL), "os._exit": lambda: os._exit(0),
    "a crash": lambda: (faulthandler.disable(), ctypes.string_at(0)),
}  # fmt: skip


def hold_and_die(lock, end):
    lock.acquire()
    ENDS[end]()


@pytest.mark.parametrize("kind", LOCKS)
def test_lock_of_a_zombie_goes_to_the_next_however_it_died(kind, fork, start):
    for end in ENDS:
        lock = LOCKS[kind](fork)
        dead = start(hold_and_die, lock, end)
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        inherit(lock)
        assert is_dead(dead.pid)
        assert lock.acquire(False)


def test_where_warnings_are_errors_the_lock_stays_for_the_next(fork, start):
    lock = fork.Lock()
    start(hold_and_die, lock, "SIGKILL").join()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            lock.acquire(timeout=PROMPTLY_S)
    inherit(lock)


def take_turns(lock, inside, violations, seed):
    """Be alone inside, again and again, now and then dying in there."""
    warnings.simplefilter("ignore", RuntimeWarning)
    mine, own = os.getpid(), random.Random(seed)
    while True:
        with lock:
            if inside.value and not is_dead(inside.value):
                violations.value += 1
            inside.value = mine
            if own.random() < 0.02:
                ENDS[own.choice(["SIGKILL", "os._exit"])]()
            if inside.value != mine:
                violations.value += 1
            inside.value = 0


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore", "Condition"])
def test_no_two_are_inside_while_holders_and_waiters_are_killed(kind, fork, start, chance):
    lock, inside, violations = LOCKS[kind](fork), fork.RawValue("i"), fork.RawValue("i")
    alive = []
    for _ in range(15):
        alive = [process for process in alive if process.exitcode is None]
        while len(alive) < 3:
            alive.append(start(take_turns, lock, inside, violations, chance.random()))
        time.sleep(chance.uniform(0, 0.03))  # a fault comes at any time
        chance.choice(alive).kill()
    for process in alive:
        process.kill()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert lock.acquire(timeout=PROMPTLY_S)
    assert violations.value == 0


def test_lock_passes_over_waiters_that_died_with_its_holder(fork, start, monitor):
    lock, (said, say) = fork.Lock(), fork.Pipe(False)
    chain = [start(hold_and_say, lock, say)]
    assert said.recv() == chain[0].pid
    for _ in range(5):
        monitor.skip()
        chain.append(start(hold_and_say, lock, say))
        monitor.until("BLMOVE", lock._semlock._id)
    for process in chain:
        os.kill(process.pid, signal.SIGKILL)
    inherit(lock)
    assert not said.poll()


def hold_and_say(lock, say):
    lock.acquire()
    say.send(os.getpid())
    signal.pause()


def test_a_hundred_killed_at_once_leave_nothing_locked(server, fork, start):
    number = 100 if server == "embedded" else 20
    locks, common, ready = [fork.Lock() for _ in range(number)], fork.Lock(), fork.Semaphore(0)
    processes = [start(hold_both, lock, common, ready) for lock in locks]
    for _ in locks:
        assert ready.acquire(timeout=60)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    for lock in [*locks, common]:
        inherit(lock)


def hold_both(lock, common, ready):
    lock.acquire()
    ready.release()
    common.acquire()
    signal.pause()


def test_semaphore_gets_back_each_of_its_tokens(fork, start):
    semaphore, (said, say) = fork.BoundedSemaphore(3), fork.Pipe(False)
    processes = [start(hold_and_say, semaphore, say) for _ in range(3)]
    assert {said.recv() for _ in range(3)} == {process.pid for process in processes}
    for process in processes:
        process.kill()
    for _ in range(3):
        with pytest.warns(RuntimeWarning, match="Semaphore"):
            assert semaphore.acquire(timeout=PROMPTLY_S)
    assert not semaphore.acquire(False)


def test_signal_that_a_killed_waiter_has_not_heard_goes_to_the_next(fork, start, monitor):
    signalled, (said, say) = fork.Semaphore(0), fork.Pipe(False)
    waiters = []
    for _ in range(2):
        monitor.skip()
        waiters.append(start(hold_and_say, signalled, say))
        monitor.until("BLMOVE", signalled._semlock._id)
    stop(waiters[0])
    signalled.release()
    waiters[0].kill()
    assert said.poll(PROMPTLY_S)
    assert said.recv() == waiters[1].pid


def test_lock_that_another_process_releases_is_a_signal_ever_after(fork, start):
    baton, (said, say) = fork.Lock(), fork.Pipe(False)
    baton.acquire()
    start(baton.release).join()
    taker = start(hold_and_say, baton, say)
    assert said.recv() == taker.pid
    taker.kill()
    taker.join()
    sessions.current()._ask("settle")
    sessions.current()._ask("settle")
    assert not baton.acquire(False)
    baton.release()
    assert baton.acquire(False)


@pytest.mark.parametrize("end", ["os._exit", "in order"])
def test_lock_given_to_a_thread_whose_process_ends_goes_on(end, fork, start, monitor):
    lock, (told, tell) = fork.Lock(), fork.Pipe(False)
    lock.acquire()
    monitor.skip()
    process = start(wait_in_a_thread, lock, told, end)
    monitor.until("BLMOVE", lock._semlock._id)
    tell.send("end")
    process.join()
    lock.release()
    assert lock.acquire(timeout=PROMPTLY_S)


def wait_in_a_thread(lock, told, end):
    threading.Thread(target=lock.acquire, daemon=True).start()
    told.recv()
    if end == "os._exit":
        os._exit(3)


def test_lock_given_to_a_thread_that_cannot_return_any_more_goes_on(fork, start, monitor):
    lock, (said, say), (told, tell) = fork.Lock(), fork.Pipe(False), os.pipe()
    lock.acquire()
    monitor.skip()
    process = start(end_in_order_but_slowly, lock, say, told)
    monitor.until("BLMOVE", lock._semlock._id)
    os.write(tell, b"go")
    assert said.recv() == "ended"
    lock.release()
    assert lock._semlock._get_value() == 0  # it is the thread's, which does not run again
    os.write(tell, b"go")
    process.join()
    assert lock.acquire(timeout=PROMPTLY_S)


def end_in_order_but_slowly(lock, say, told):
    """Come to the orderly end, with a thread that waits, and stop on the way out until told to go."""
    threading.Thread(target=lock.acquire, daemon=True).start()
    session = sessions.current()
    report = session._tell

    def ended(op, *rest):
        report(op, *rest)
        if op == "ended":
            say.send("ended")
            word = ctypes.create_string_buffer(2)
            ctypes.PyDLL(None).read(told, word, 2)  # with the GIL: no thread gets on
            os._exit(0)

    session._tell = ended
    os.read(told, 2)


def test_lock_of_one_killed_in_its_exit_handlers_goes_on(fork, start):
    lock = fork.Lock()
    start(die_in_an_exit_handler, lock).join()
    inherit(lock)


def die_in_an_exit_handler(lock):
    lock.acquire()
    cloudpool.util.Finalize(None, os.kill, (os.getpid(), signal.SIGKILL), exitpriority=10)


def use_all(lock, queue, event):
    warnings.simplefilter("ignore", RuntimeWarning)
    own = [cloudpool.Lock(), cloudpool.Queue()]
    with lock, own[0]:
        own[1].put(lock)
        queue.put(own[1])
    event.wait(60)


def test_processes_killed_at_any_moment_of_their_start_leave_nothing(ctx, start, chance, store, settle):
    settle()
    before = store.call("HLEN", sessions.current().keys.objects)
    lock, queue, event = ctx.Lock(), ctx.Queue(), ctx.Event()
    fresh = ctx.get_start_method() == "spawn"
    for _ in range(4 if fresh else 20):
        process = start(use_all, lock, queue, event)
        time.sleep(chance.uniform(0, 0.6 if fresh else 0.05))
        process.kill()
        process.join()
        process._args = ()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert lock.acquire(timeout=PROMPTLY_S)
    while not queue.empty():
        inner = queue.get()
        assert inner.get(timeout=PROMPTLY_S).acquire(False) is False
        del inner
    # What was told to be put, and never was, is held until its queue goes: in doubt a leak, never a loss.
    del lock, queue, event
    settle()
    assert store.call("HLEN", sessions.current().keys.objects) == before


# -- conditions, barriers, events -----------------------------------------------------------------------------------------


def wait_and_say(condition, say):
    with condition:
        say.send((os.getpid(), condition.wait(60)))


@pytest.fixture
def waiters(fork, start, monitor):
    """waiters(condition, n): so many processes that wait there, in their order."""

    def waiters(condition, n, say):
        found = []
        for _ in range(n):
            monitor.skip()
            found.append(start(wait_and_say, condition, say))
            monitor.until("BLMOVE", condition._id, "wake:")
        return found

    return waiters


def test_wake_up_of_one_that_dies_before_it_has_the_lock_goes_to_the_next(fork, waiters, monitor):
    condition, (said, say) = fork.Condition(), fork.Pipe(False)
    first, second = waiters(condition, 2, say)
    with condition:
        monitor.skip()
        condition.notify()
        monitor.until("BLMOVE", condition._lock._semlock._id, "avail")  # woken, and waits for the lock
        first.kill()
        first.join()
        sessions.current()._ask("settle")
    assert said.poll(PROMPTLY_S)
    assert said.recv() == (second.pid, True)


def test_no_wake_up_is_lost_to_waiters_that_are_killed_at_any_time(fork, waiters, chance):
    condition, (said, say) = fork.Condition(), fork.Pipe(False)
    processes = waiters(condition, 6, say)
    doomed = chance.sample(processes, 3)
    with condition:  # so none of them comes back from its wait before all have died
        killer = threading.Thread(target=kill_one_by_one, args=(doomed, chance))
        killer.start()
        for _ in range(3):
            condition.notify()
        killer.join()
        for process in doomed:
            process.join()
    left = {process.pid for process in processes} - {process.pid for process in doomed}
    for _ in range(3):
        assert said.poll(PROMPTLY_S)
        pid, woken = said.recv()
        assert woken
        left.remove(pid)


def kill_one_by_one(processes, chance):
    for process in processes:
        time.sleep(chance.uniform(0, 0.01))
        process.kill()


def pass_through(barrier, say, times):
    for _ in range(times):
        say.send(outcome_of(barrier))
    signal.pause()


def outcome_of(barrier):
    try:
        return barrier.wait(60)
    except threading.BrokenBarrierError:
        return "broken"


def test_party_that_dies_on_its_way_breaks_the_barrier_for_those_who_wait(fork, start, monitor):
    barrier, (said, say) = fork.Barrier(3), fork.Pipe(False)
    often = start(pass_through, barrier, say, 2)
    once = start(pass_through, barrier, say, 1)
    monitor.skip()
    assert outcome_of(barrier) in range(3)
    assert {said.recv(), said.recv()} < set(range(3))
    while barrier.n_waiting < 1:
        monitor.until("XREAD", barrier._id)
    assert often.is_alive()
    once.kill()  # it has passed once, and is nowhere near
    assert said.poll(PROMPTLY_S)
    assert said.recv() == "broken"
    assert barrier.broken


def test_party_that_dies_or_ends_while_nobody_waits_leaves_the_barrier_whole(fork, start, settle):
    barrier, (said, say) = fork.Barrier(2), fork.Pipe(False)
    for _ in range(2):  # as when workers that have said that they are there are terminated, and others come
        party = start(pass_through, barrier, say, 1)
        assert outcome_of(barrier) in range(2)
        assert said.recv() in range(2)
        party.terminate()
        party.join()
        settle()
    assert not barrier.broken


def test_event_waiters_are_unharmed_by_the_death_of_others(fork, start, monitor):
    event, (said, say) = fork.Event(), fork.Pipe(False)
    processes = []
    for _ in range(3):
        monitor.skip()
        processes.append(start(lambda: say.send((os.getpid(), event.wait(60)))))
        monitor.until("XREAD", event._id)
    processes[1].kill()
    event.set()
    assert {said.recv() for _ in range(2)} == {(processes[0].pid, True), (processes[2].pid, True)}


# -- queues -------------------------------------------------------------------------------------------------------------

QUEUES = {
    "Queue": lambda ctx: ctx.Queue(), "bounded": lambda ctx: ctx.Queue(2), "SimpleQueue": lambda ctx: ctx.SimpleQueue(),
    "JoinableQueue": lambda ctx: ctx.JoinableQueue(), "Manager().Queue": lambda ctx: ctx.Manager().Queue(),
}  # fmt: skip


def get_say_and_die(queue, said):
    os.write(said, queue.get().to_bytes(4, "little"))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["Queue", "bounded", "SimpleQueue", "Manager().Queue"])
def test_item_that_get_has_returned_to_one_that_dies_at_once_does_not_come_back(kind, fork, start):
    queue, (hear, said) = QUEUES[kind](fork), os.pipe()
    got = []
    for n in range(10):
        queue.put(n)
        start(get_say_and_die, queue, said)
        got.append(int.from_bytes(os.read(hear, 4), "little"))
    assert got == list(range(10))
    assert queue.empty()
    os.close(hear)
    os.close(said)


def put_many(queue, number):
    for n in range(1000):
        queue.put((number, n))
    signal.pause()


@pytest.mark.parametrize("kind", QUEUES)
def test_what_killed_producers_have_put_is_whole_and_others_go_on(kind, fork, start, chance):
    queue = QUEUES[kind](fork)
    producers = [start(put_many, queue, number) for number in range(3)]
    got = {number: [] for number in range(4)}

    def get_until(done):
        while not done():
            number, n = queue.get()
            got[number].append(n)

    for producer in producers:
        enough = sum(map(len, got.values())) + chance.randrange(1, 60)
        get_until(lambda enough=enough: sum(map(len, got.values())) >= enough)
        producer.kill()
    for producer in producers:
        producer.join()
    last = start(put_many, queue, 3)
    get_until(lambda: len(got[3]) >= 5)
    last.kill()
    for numbers in got.values():
        assert numbers == list(range(len(numbers)))


def get_for_ever(queue, said, done):
    warnings.simplefilter("ignore", RuntimeWarning)
    while True:
        n = queue.get()
        os.write(said, n.to_bytes(4, "little"))
        if done:
            queue.task_done()


@pytest.mark.parametrize("kind", QUEUES)
def test_killed_consumers_lose_what_they_had_got_at_most_and_double_nothing(kind, fork, start, chance):
    queue, (hear, said), items = QUEUES[kind](fork), os.pipe(), 150
    joinable = kind == "JoinableQueue"
    consumers = [start(get_for_ever, queue, said, joinable) for _ in range(3)]
    deaths = 0
    for n in range(items):
        queue.put(n)
        if n % 25 == 10:
            deaths += 1
            consumers.pop(chance.randrange(3)).kill()
            consumers.append(start(get_for_ever, queue, said, joinable))
    if joinable:
        queue.join()
    queue.put(items)
    got = []
    while items not in got:
        data = os.read(hear, 4096)
        got += [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    for consumer in consumers:
        consumer.kill()
        consumer.join()
    os.set_blocking(hear, False)
    try:
        data = os.read(hear, 65536)
        got += [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    except BlockingIOError:
        pass
    missing, doubled = set(range(items)) - set(got), len(got) - len(set(got))
    if joinable:  # one that was not marked done comes back
        assert not missing
        assert doubled <= deaths + 3
    else:
        assert len(missing) <= deaths + 3
        assert doubled == 0
    os.close(hear)
    os.close(said)


def put_numbers(queue):
    for n in range(10**6):
        queue.put(n)


def test_places_of_a_bounded_queue_come_back(fork, start, monitor, chance):
    queue = fork.JoinableQueue(3)
    hear, said = os.pipe()
    for _ in range(4):
        producer = start(put_numbers, queue)
        consumer = start(get_for_ever, queue, said, True)
        os.read(hear, 4)
        time.sleep(chance.uniform(0, 0.01))
        consumer.kill()
        producer.kill()
        for process in (consumer, producer):
            process.join()
        sessions.current()._ask("settle")
        sessions.current()._ask("settle")
        while not queue.empty():
            queue.get_nowait()
            queue.task_done()
        for n in range(3):
            queue.put(n, timeout=PROMPTLY_S)
        with pytest.raises(stdlib_queue.Full):
            queue.put_nowait(3)
        for _ in range(3):
            queue.get(timeout=PROMPTLY_S)
            queue.task_done()
    os.close(hear)
    os.close(said)


def put_large(queue, size):
    queue.put(("large", np.ones(size, "u1")))


def get_large(queue, said):
    os.write(said, b"+")
    queue.get()
    signal.pause()


def blobs():
    return [name for name in os.listdir(sessions.current().info.folder) if name.startswith("blob.")]


def test_large_put_or_get_that_is_cut_short_by_death_leaves_all_or_nothing(fork, start, chance, settle):
    queue, size, (hear, said) = fork.Queue(), 50 << 20, os.pipe()
    for _ in range(3):
        producer = start(put_large, queue, size)
        time.sleep(chance.uniform(0, 0.08))
        producer.kill()
        producer.join()
        consumer = start(get_large, queue, said)
        os.read(hear, 1)
        queue.put(("large", np.ones(size, "u1")))
        time.sleep(chance.uniform(0, 0.05))
        consumer.kill()
        consumer.join()
        settle()
    queue.put(("last", None))
    while (item := queue.get(timeout=PROMPTLY_S))[0] != "last":
        assert item[1].nbytes == item[1].sum(dtype=int) == size
    # A consumer that died between having got an item and dropping its blob leaves that until the session's end.
    assert len(blobs()) <= 3
    os.close(hear)
    os.close(said)


class KillsItsFirstReader:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return read_again, (self.path,)


def read_again(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "read"
    return os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("way", ["Queue", "JoinableQueue", "Pipe"])
def test_message_whose_reader_dies_as_it_unpickles_comes_back_with_its_handles(
    way, fork, start, tmp_path, settle
):
    if way == "Pipe":
        reader, writer = fork.Pipe(False)
        get, put = reader.recv, writer.send
    else:
        queue = getattr(fork, way)()
        get, put = queue.get, queue.put
    event = fork.Event()
    event.set()
    put([event, KillsItsFirstReader(str(tmp_path / "read"))])
    del event
    start(get).join()
    settle()
    event, word = get()
    assert word == "read"
    assert event.is_set()


# -- pipes --------------------------------------------------------------------------------------------------------------


def send_large(connection, said):
    os.write(said, b"+")
    while True:
        connection.send(np.ones(20 << 20, "u1"))


def test_pipe_of_a_killed_sender_ends_behind_whole_messages(fork, start, chance):
    for duplex in (False, True):
        ours, theirs = fork.Pipe(duplex)
        hear, said = os.pipe()
        sender = start(send_large, theirs, said)
        theirs.close()
        os.read(hear, 1)
        time.sleep(chance.uniform(0, 0.1))
        sender.kill()
        with pytest.raises(EOFError):
            while ours.poll(PROMPTLY_S):
                assert ours.recv().sum(dtype=int) == 20 << 20
        if duplex:
            with pytest.raises(BrokenPipeError):
                ours.send(1)
        ours.close()
        os.close(hear)
        os.close(said)


def test_sender_that_waits_for_room_hears_of_its_readers_death(fork, start):
    reader, writer = fork.Pipe(False)
    hear, said = os.pipe()
    holder = start(lambda: (os.write(said, b"+"), signal.pause()))
    os.read(hear, 1)
    reader.close()
    killer = threading.Timer(0.1, holder.kill)
    killer.start()
    with pytest.raises(BrokenPipeError):
        while True:
            writer.send_bytes(b"x" * (1 << 20))
    killer.join()
    os.close(hear)
    os.close(said)
