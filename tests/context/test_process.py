"""Process: what it does beyond what CPython's own tests ask: objects of every kind in processes that inherited nothing."""

import os
import signal
import socket
import subprocess
import sys

import pytest

import cloudpool
from cloudpool import connection, shared_memory

# A name of the module, what makes one, and what a process does with it and finds.
USES = {
    "Lock": (lambda m: m.Lock(), lambda x: (x.acquire(False), x.acquire(False)), (True, False)),
    "RLock": (lambda m: m.RLock(), lambda x: (x.acquire(), x.acquire()), (True, True)),
    "Semaphore": (lambda m: m.Semaphore(1), lambda x: (x.acquire(False), x.acquire(False)), (True, False)),
    "BoundedSemaphore": (lambda m: m.BoundedSemaphore(3), lambda x: x.acquire() and x.get_value(), 2),
    "Condition": (lambda m: m.Condition(), lambda x: x.acquire() and x.wait(0.01), False),
    "Event": (lambda m: m.Event(), lambda x: (x.set(), x.is_set()), (None, True)),
    "Barrier": (lambda m: m.Barrier(1), lambda x: (x.wait(), x.parties), (0, 1)),
    "Queue": (lambda m: m.Queue(), lambda x: (x.put(1), x.get()), (None, 1)),
    "JoinableQueue": (lambda m: m.JoinableQueue(), lambda x: (x.put(1), x.get(), x.task_done(), x.join()), (None, 1, None, None)),
    "SimpleQueue": (lambda m: m.SimpleQueue(), lambda x: (x.put(1), x.get()), (None, 1)),
    "Pipe": (lambda m: m.Pipe(), lambda x: (x[0].send(1), x[1].recv()), (None, 1)),
    "Value": (lambda m: m.Value("i", 3), lambda x: x.value + x.get_lock().acquire(), 4),
    "Array": (lambda m: m.Array("d", [1, 2]), lambda x: x[:], [1.0, 2.0]),
    "RawValue": (lambda m: m.RawValue("i", 3), lambda x: x.value, 3),
    "RawArray": (lambda m: m.RawArray("i", 5000), len, 5000),
    "SharedMemory": (lambda _: shared_memory.SharedMemory(create=True, size=9), lambda x: x.size >= 9, True),
    "ShareableList": (lambda _: shared_memory.ShareableList([1, "a"]), list, [1, "a"]),
    "dict": (lambda m: m.Manager().dict(a=1), dict, {"a": 1}),
    "list": (lambda m: m.Manager().list([1]), lambda x: x[:], [1]),
    "Namespace": (lambda m: m.Manager().Namespace(a=1), lambda x: x.a, 1),
    "Manager's Lock": (lambda m: m.Manager().Lock(), lambda x: x.acquire(False), True),
    "Manager's Queue": (lambda m: m.Manager().Queue(), lambda x: (x.put(1), x.get()), (None, 1)),
    "Manager's Value": (lambda m: m.Manager().Value("i", 1), lambda x: x.value, 1),
    "Manager's Array": (lambda m: m.Manager().Array("i", [1]), lambda x: x[0], 1),
}  # fmt: skip


@pytest.fixture
def made(ctx):
    """One of each kind, whose makers live as long."""
    keep, things = [], {}
    manager = ctx.Manager()

    class Module:
        def __getattr__(self, name):
            return getattr(ctx, name)

        def Manager(self):
            return manager

    for kind, (make, _, _) in USES.items():
        things[kind] = make(Module())
        keep.append(things[kind])
    yield things
    for kind in ("SharedMemory", "ShareableList"):
        memory = getattr(things[kind], "shm", things[kind])
        memory.close()
        memory.unlink()
    manager.shutdown()


def use(things, answers):
    for kind, thing in things.items():
        answers.send((kind, USES[kind][1](thing)))


def use_what_comes(queue, answers):
    use(queue.get(), answers)
    queue.get()


def found(answers):
    return dict(answers.recv() for _ in USES)


EXPECTED = {kind: expected for kind, (_, _, expected) in USES.items()}


def test_every_kind_of_object_works_in_a_process_that_got_it_as_an_argument(ctx, made, start, finish):
    answers, say = ctx.Pipe(False)
    process = start(use, made, say)
    assert found(answers) == EXPECTED
    finish(process)


def test_every_kind_of_object_works_in_a_process_that_ran_before_it_was_made(ctx, request, start, finish):
    answers, say = ctx.Pipe(False)
    queue = ctx.Queue()
    process = start(use_what_comes, queue, say)
    made = request.getfixturevalue("made")
    queue.put(made)
    assert found(answers) == EXPECTED
    queue.put(None)  # it may end: what is in the message it had is its own
    finish(process)


def test_every_kind_goes_through_a_pipe_too(ctx, made, start, finish):
    ours, theirs = ctx.Pipe()
    process = start(use_from_pipe, theirs)
    ours.send(made)
    assert found(ours) == EXPECTED
    finish(process)


def use_from_pipe(end):
    use(end.recv(), end)


# -- the end of a process ----------------------------------------------------------------------------------------------


def end(how):
    if how == "signal":
        os.kill(os.getpid(), signal.SIGUSR1)
    raise SystemExit(how)


@pytest.mark.parametrize(("how", "code"), [(None, 0), (3, 3), ("signal", -signal.SIGUSR1)])
def test_exit_codes_are_the_stdlibs(ctx, start, how, code):
    process = start(end, how)
    process.join(20)
    assert process.exitcode == code


def nested(ctx_name, answers):
    context = cloudpool.get_context(ctx_name)
    child = context.Process(target=answers.send, args=("grandchild",))
    child.start()
    child.join()
    answers.send(child.exitcode)


def test_a_childs_child_is_of_the_session(ctx, start, finish):
    answers, say = ctx.Pipe(False)
    process = start(nested, ctx.get_start_method(), say)
    assert [answers.recv(), answers.recv()] == ["grandchild", 0]
    finish(process)


def put_and_end(queue, count):
    for n in range(count):
        queue.put(n)


def test_what_a_process_put_before_its_end_is_there_when_it_has_been_joined(ctx, start, finish):
    queue = ctx.Queue()
    finish(start(put_and_end, queue, 500))
    assert [queue.get(False) for _ in range(500)] == list(range(500))


def test_sentinels_and_ends_are_waited_for_together(ctx, start):
    (told, tell), queue = ctx.Pipe(False), ctx.Queue()
    process = start(told.recv)
    assert connection.wait([process.sentinel, queue], 0) == []
    tell.send(None)
    assert connection.wait([process.sentinel, queue], 20) == [process.sentinel]


def answer_impatiently(answers, questions):
    socket.setdefaulttimeout(0)  # what is not there at once is an error
    answers.put("ready")
    answers.put(questions.get())


def test_the_programs_default_timeout_of_sockets_is_not_that_of_its_connections(ctx, start, finish):
    answers, questions = ctx.Queue(), ctx.Queue()
    process = start(answer_impatiently, answers, questions)
    assert answers.get(timeout=20) == "ready"
    questions.put("asked")
    assert answers.get(timeout=20) == "asked"
    finish(process)


# -- the fork server ---------------------------------------------------------------------------------------------------

# The second child is the stdlib's: it joins no session, so what it has of cloudpool is the server's.
TWO_CHILDREN = """
import cloudpool
import multiprocessing

first = cloudpool.get_context("forkserver").Process(target=print, args=("first",))
ask = "import sys; print('cloudpool.host.membership' in sys.modules, flush=True)"
second = multiprocessing.get_context("forkserver").Process(target=exec, args=(ask,))
for child in (first, second):
    child.start()
    child.join()
print(multiprocessing.forkserver._forkserver._preload_modules)
"""


def test_the_fork_server_has_imported_what_each_child_needs_and_the_users_list_is_as_it_was():
    done = subprocess.run([sys.executable, "-c", TWO_CHILDREN], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("first\nTrue\n['__main__']\n", "")
