"""An object's keys live as long as a process or a message has a handle, and no longer."""

import gc
import os
import signal
import threading
from pathlib import Path

import pytest

import cloudpool
from cloudpool.host import folder as folders, session as sessions
from cloudpool.host.membership import MOST_DROPPED
from cloudpool.sync import block

KINDS = {
    "Lock": lambda ctx: ctx.Lock(), "Semaphore": lambda ctx: ctx.Semaphore(3), "Event": lambda ctx: ctx.Event(),
    "Condition": lambda ctx: ctx.Condition(), "Barrier": lambda ctx: ctx.Barrier(2), "Queue": lambda ctx: ctx.Queue(),
    "JoinableQueue": lambda ctx: ctx.JoinableQueue(2), "SimpleQueue": lambda ctx: ctx.SimpleQueue(),
    "Pipe": lambda ctx: ctx.Pipe(), "Value": lambda ctx: ctx.Value("i"), "Array": lambda ctx: ctx.Array("d", 1000),
    "dict": lambda ctx: ctx.Manager().dict(a=1), "list": lambda ctx: ctx.Manager().list([1]),
}  # fmt: skip


@pytest.fixture
def there(settle, store):
    """there(): the objects of the session, and the keys that are theirs."""

    def there():
        settle()
        keys = sessions.current().keys
        return set(store.call("HKEYS", keys.objects)), {
            key for key in store.call("KEYS", keys.all()) if b"{session}" not in key
        }

    return there


def keep(thing, told, said):
    said.send("has it")
    told.recv()


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_with_the_last_handle_in_this_process(kind, ctx, there):
    KINDS["Value"](ctx)  # there is an arena
    before = there()
    thing = KINDS[kind](ctx)
    assert there()[0] > before[0]
    del thing
    assert there() == before


def test_it_stays_while_a_process_that_outlives_the_parents_handle_has_it(ctx, start, finish, there):
    (told, tell), (said, say) = ctx.Pipe(False), ctx.Pipe(False)
    before = there()
    things = [KINDS[kind](ctx) for kind in ("Lock", "Queue", "Event", "Condition")]
    things[1].put(1)
    things[2].set()
    process = start(keep, things, told, say)
    assert said.recv() == "has it"
    alive = there()
    process._args = things = None
    assert there() == alive
    tell.send("go")
    finish(process)
    # what the process noted of its own use of the pipes stays with them
    assert there()[0] == before[0]


def test_it_goes_with_a_process_that_is_killed(ctx, start, there):
    (told, tell), (said, say) = ctx.Pipe(False), ctx.Pipe(False)
    before = there()
    process = start(keep, [ctx.Lock(), ctx.Queue()], told, say)
    process._args = ()
    said.recv()
    assert len(there()[0] - before[0]) == 2
    process.kill()
    process.join()
    assert there()[0] == before[0]
    tell.close()


def test_it_stays_in_a_message_and_goes_with_what_was_taken_out(ctx, there):
    queue = ctx.Queue()
    queue.put(1)
    queue.get()
    before = there()
    thing = ctx.Event()
    thing.set()
    queue.put([{"deep": thing}])
    del thing
    assert len(there()[0] - before[0]) == 1
    thing = queue.get()
    assert thing[0]["deep"].is_set()
    del thing
    assert there()[0] == before[0]


def test_it_stays_where_it_can_be_read_again(ctx, there):
    names = cloudpool.Manager().Namespace()
    names.lock = ctx.Lock()
    there()
    assert names.lock.acquire(False)
    assert not names.lock.acquire(False)


def make_and_put(queue):
    lock = cloudpool.Lock()
    lock.acquire()
    queue.put(lock)


def test_it_outlives_its_maker_in_a_message(ctx, start, finish, there):
    queue = ctx.Queue()
    finish(start(make_and_put, queue))
    there()
    lock = queue.get()
    assert not lock.acquire(False)
    lock.release()
    assert lock.acquire(False)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_child_forked_by_another_thread_does_not_let_go_of_what_this_one_holds(server, settle):
    """As when a pool's supervisor replaces a worker: the child's copy of this thread's locals goes before all else."""
    cloudpool.Value("i")
    arena = block._filling.arena._path  # nothing else holds it
    child = cloudpool.get_context("fork").Process(target=int)

    def run() -> None:
        child.start()
        child.join()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    settle()
    assert os.path.exists(arena)


def drop_many(ctx, number):
    for _ in range(number):
        with ctx.Lock():
            pass


def test_what_threads_know_of_an_object_goes_after_it(server, settle):
    ctx = cloudpool.get_context("fork")
    drop_many(ctx, 4 * MOST_DROPPED)
    settle()
    drop_many(ctx, MOST_DROPPED)
    channel = sessions.current().channel()
    assert len(channel.joined) < 2 * MOST_DROPPED
    assert len(channel.accounts) < 2 * MOST_DROPPED


def test_what_a_thread_has_put_counts_when_the_queue_comes_back_in_a_message(server):
    ctx = cloudpool.get_context("fork")
    outer, queue = ctx.Queue(), ctx.Queue()
    queue.put(1)
    outer.put(queue)
    del queue
    drop_many(ctx, 2 * MOST_DROPPED)
    queue = outer.get()
    queue.put(2)
    assert [queue.get(), queue.get()] == [1, 2]


def test_bytes_that_nobody_receives_take_nothing_from_the_message_before(server, settle):
    ctx = cloudpool.get_context("fork")
    queue, lock, (reader, writer) = ctx.Queue(), ctx.Lock(), ctx.Pipe(False)
    reader.close()
    queue.put(lock)
    with pytest.raises(BrokenPipeError):
        writer.send_bytes(b"nobody")
    del lock
    settle()
    assert queue.get().acquire(timeout=5)


def agent_pid():
    inode = os.stat(os.path.join(sessions.current().info.folder, folders.LOCK)).st_ino
    with open("/proc/locks") as file:  # the agent's for as long as it lives
        return next(int(line.split()[4]) for line in file if line.split()[5].endswith(f":{inode}"))


def end_in_order(counter, joined, go):
    sessions.current().channel()  # the agent has named it
    os.write(joined, b"+")
    os.read(go, 1)
    counter.get_lock().acquire()
    for _ in range(20):  # in an arena that it holds to its end
        cloudpool.Value("i")


def test_orderly_end_is_one_though_the_parent_tells_of_the_birth_after_it(there, settle, monkeypatch):
    """As on a busy machine: all that the child has said, its death and its birth are heard in one moment."""
    counter, (hear, joined), (go, let_go) = cloudpool.Value("i"), os.pipe(), os.pipe()
    before, session, agent = there()[0], sessions.current(), agent_pid()
    born = session.born

    def late(pid, ticket, ids):
        os.read(hear, 1)
        os.kill(agent, signal.SIGSTOP)
        while "\nState:\tT" not in Path(f"/proc/{agent}/status").read_text():
            pass  # it is no child of this process: nothing tells
        os.write(let_go, b"+")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        born(pid, ticket, ids)
        os.kill(agent, signal.SIGCONT)
        settle()  # before it is waited for, while its number is its own

    monkeypatch.setattr(session, "born", late)
    process = cloudpool.get_context("fork").Process(target=end_in_order, args=(counter, joined, go))
    process.start()
    process.join()
    assert process.exitcode == 0
    settle()
    assert not counter.get_lock().acquire(False)  # it is taken still, and nobody is warned
    assert there()[0] == before
    for fd in (hear, joined, go, let_go):
        os.close(fd)


def fork_and_die(queue, told, said):
    """Be killed after a fork, before the agent hears of the child."""
    sessions.current().born = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    cloudpool.get_context("fork").Process(
        target=speak_when_told, args=(cloudpool.Lock(), queue, told, said)
    ).start()


def speak_when_told(lock, queue, told, said):
    os.read(told, 1)  # nothing of the session's: it has not spoken until here
    queue.put(lock.acquire(False))
    os.write(said, b".")
    os.read(told, 1)


def test_a_child_whose_parent_dies_before_it_tells_of_it_holds_what_it_has_and_no_longer(ctx, start, there):
    (told, tell), (hear, said) = os.pipe(), os.pipe()
    queue = ctx.Queue()
    before = there()
    process = start(fork_and_die, queue, told, said, by=cloudpool.get_context("fork"))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(there()[0] - before[0]) == 1
    os.write(tell, b".")
    os.close(said)
    assert os.read(hear, 1) == b"."
    assert queue.get(timeout=60) is True
    os.write(tell, b".")
    assert os.read(hear, 1) == b""  # it has ended
    assert there()[0] == before[0]
    for fd in (told, tell, hear):
        os.close(fd)


def fork_by_hand(queue, go_on, said):
    """As a daemon does: the process that the agent knows ends, its child, which nobody told of, has what it had."""
    event = cloudpool.Event()
    event.set()
    if os.fork():
        os._exit(0)
    os.read(go_on, 1)
    queue.put(event.is_set())
    queue.close()
    queue.join_thread()
    os.close(said)
    os._exit(0)


def test_a_daemon_holds_what_the_process_held_that_it_was_forked_by(ctx, start):
    (go_on, tell), (hear, said) = os.pipe(), os.pipe()
    fork, queue = cloudpool.get_context("fork"), ctx.Queue()
    for _ in range(20):
        process = start(fork_by_hand, queue, go_on, said, by=fork)
        process.join()
        assert process.exitcode == 0
        os.write(tell, b".")
        assert queue.get(timeout=20) is True
    os.close(said)
    assert os.read(hear, 1) == b""  # they have ended
    for fd in (go_on, tell, hear):
        os.close(fd)


def close_all_descriptors(queue, opens):
    os.closerange(3, 256)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(opens)]
    queue.put([os.fstat(fd).st_rdev for fd in opened])
    null = os.stat(os.devnull).st_rdev
    assert [os.fstat(fd).st_rdev for fd in opened] == [null] * opens


@pytest.mark.parametrize("opens", [0, 3])
def test_a_child_that_closes_all_descriptors_has_what_it_has(server, start, opens):
    fork = cloudpool.get_context("fork")
    queue = fork.Queue()
    gc.collect()  # handles that are garbage here would have the child speak to the agent before it closes
    process = start(close_all_descriptors, queue, opens, by=fork)
    assert queue.get(timeout=60) == [os.stat(os.devnull).st_rdev] * opens
    process.join()
    assert process.exitcode == 0


def take(lock):
    lock.acquire()


def test_what_a_process_held_at_its_orderly_end_stays_held_as_with_the_stdlib(ctx, start):
    lock = ctx.Lock()
    process = start(take, lock)
    process.join()
    assert process.exitcode == 0
    assert not lock.acquire(False)
