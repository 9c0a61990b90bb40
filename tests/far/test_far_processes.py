"""A process on a far host is what the stdlib's is: to who started it, and to itself."""

from __future__ import annotations

import os
import pathlib
import random
import select
import signal
import sys
import time
import traceback
from multiprocessing import connection

import pytest
from needed import needed
from waiting import until

import cloudpool


def leave(code):
    sys.exit(code)


def leave_at_once(code):
    os._exit(code)


def fail():
    raise LookupError("of the test")


def die(signalnum):
    os.kill(os.getpid(), signalnum)


def stay(event=None):
    if event is not None:
        event.set()
    while True:
        signal.pause()


@pytest.mark.parametrize(
    ("target", "args", "exitcode"),
    [
        (abs, (-1,), 0),
        (leave, (3,), 3),
        (leave, ("why",), 1),
        (leave_at_once, (7,), 7),
        (fail, (), 1),
        (die, (signal.SIGTERM,), -signal.SIGTERM),
        (die, (signal.SIGSEGV,), -signal.SIGSEGV),
    ],
    ids=["returns", "sys.exit(3)", "sys.exit(text)", "os._exit", "raises", "SIGTERM", "SIGSEGV"],
)
def test_exit_code(start, target, args, exitcode):
    process = start(target, *args)
    process.join(30)
    assert process.exitcode == exitcode


def test_exception_has_its_traceback_on_stderr(start, capfd):
    start(fail).join(30)
    said = capfd.readouterr().err
    assert "Traceback (most recent call last):" in said
    assert 'raise LookupError("of the test")' in said
    assert "LookupError: of the test" in said


def test_program_derives_a_context_from_the_far_one(far):
    """As programs do whose processes are not to be daemons."""

    class Own(type(far)):
        pass

    with Own().Pool(1) as pool:
        assert pool.apply(os.getpid) > 2**22


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_signal_to_one_that_runs(far, start, end):
    event = far.Event()
    process = start(stay, event)
    assert event.wait(30)
    getattr(process, end)()
    process.join(30)
    assert process.exitcode == {"terminate": -signal.SIGTERM, "kill": -signal.SIGKILL}[end]


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_signal_to_one_that_has_hardly_begun(start, end):
    process = start(stay)
    getattr(process, end)()
    process.join(30)
    assert process.exitcode == {"terminate": -signal.SIGTERM, "kill": -signal.SIGKILL}[end]


def test_signal_to_one_that_has_ended_does_nothing(start):
    process = start(abs, -1)
    process.join(30)
    process.terminate()
    process.kill()
    assert process.exitcode == 0


def await_interrupt(event, queue):
    try:
        event.set()  # the interrupt may come before this returns
        signal.pause()
    except KeyboardInterrupt:
        queue.put("interrupted")


def test_interrupt_is_a_keyboard_interrupt(far, start):
    event, queue = far.Event(), far.Queue()
    process = start(await_interrupt, event, queue)
    assert event.wait(30)
    process._popen.interrupt()
    assert queue.get(timeout=30) == "interrupted"
    process.join(30)
    assert process.exitcode == 0


def test_sentinel_is_a_descriptor_that_is_ready_at_the_end(far, start):
    event = far.Event()
    process = start(event.wait)
    assert connection.wait([process.sentinel], 0) == []
    assert select.select([process.sentinel], [], [], 0)[0] == []
    event.set()
    assert connection.wait([process.sentinel], 30) == [process.sentinel]
    assert select.select([process.sentinel], [], [], 0)[0] == [process.sentinel]
    assert process.exitcode == 0


def test_join_with_a_timeout_and_is_alive(far, start):
    event = far.Event()
    process = start(event.wait)
    process.join(0.01)
    assert process.exitcode is None
    assert process.is_alive()
    event.set()
    process.join()
    assert not process.is_alive()
    process.close()
    with pytest.raises(ValueError, match="process object is closed"):
        process.is_alive()


def test_active_children(far, start):
    event = far.Event()
    process = start(event.wait)
    assert process in cloudpool.active_children()
    event.set()
    process.join()
    assert process not in cloudpool.active_children()


def about(queue):
    me, parent = cloudpool.current_process(), cloudpool.parent_process()
    queue.put(
        (os.getpid(), os.getppid(), me.pid, me.name, me.daemon, parent.pid, parent.name, parent.is_alive())
    )


def test_both_sides_agree_on_who_is_who(far, start):
    queue = far.Queue()
    processes = [start(about, queue, name=f"number {n}") for n in range(3)]
    said = sorted(queue.get(timeout=30) for _ in processes)
    me = cloudpool.current_process()
    assert said == sorted(
        (p.pid, os.getpid(), p.pid, p.name, False, os.getpid(), me.name, True) for p in processes
    )
    assert len({p.pid for p in processes}) == 3


def test_os_kill_reaches_it_and_nobody_else(start):
    process = start(stay)
    assert process.pid == process.ident
    os.kill(process.pid, signal.SIGUSR1)
    process.join(30)
    assert process.exitcode == -signal.SIGUSR1
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def nested(queue, event):
    child = cloudpool.Process(target=about, args=(queue,))
    child.start()
    child.join()
    queue.put((os.getpid(), child.pid, child.exitcode, child in cloudpool.active_children()))
    event.wait()


def test_process_of_a_process(far, start):
    queue, event = far.Queue(), far.Event()
    process = start(nested, queue, event)
    inner, outer = queue.get(timeout=30), queue.get(timeout=30)
    event.set()
    assert outer == (process.pid, inner[0], 0, False)
    assert inner[1] == inner[5] == process.pid


def daemonic_parent(queue):
    try:
        cloudpool.Process(target=abs, args=(-1,)).start()
    except AssertionError as error:
        queue.put(str(error))


def test_daemonic_process_may_have_no_children(far, start):
    queue = far.Queue()
    start(daemonic_parent, queue, daemon=True)
    assert queue.get(timeout=30) == "daemonic processes are not allowed to have children"


def pool_of_its_own(queue):
    with cloudpool.Pool(3) as pool:
        queue.put(pool.map(abs, range(-20, 0)))


def test_pool_of_a_far_process(far, start):
    queue = far.Queue()
    process = start(pool_of_its_own, queue)
    assert queue.get(timeout=60) == list(range(20, 0, -1))
    process.join(30)
    assert process.exitcode == 0


def outlive(queue, event):
    parent = cloudpool.parent_process()
    event.set()
    parent.join()
    queue.put((parent.is_alive(), parent.pid))


def parent_to_be_killed(queue, event):
    far = cloudpool.get_context("subprocess")
    far.Process(target=outlive, args=(queue, event)).start()
    stay()


def test_parent_process_tells_of_the_parents_death(far, start):
    queue, event = far.Queue(), far.Event()
    process = start(parent_to_be_killed, queue, event)
    assert event.wait(30)
    process.kill()
    assert queue.get(timeout=30) == (False, process.pid)


def fork_inside(queue):
    pid = os.fork()
    if pid == 0:
        queue.put(("child", os.getppid(), os.getpid()))
        queue.close()
        queue.join_thread()
        os._exit(5)
    _, status = os.waitpid(pid, 0)
    queue.put(("parent", os.getpid(), pid, os.waitstatus_to_exitcode(status)))


def test_fork_within_a_far_process(far, start):
    queue = far.Queue()
    process = start(fork_inside, queue)
    child, parent = queue.get(timeout=30), queue.get(timeout=30)
    assert parent == ("parent", process.pid, child[2], 5)
    assert child[1] == process.pid
    process.join(30)
    assert process.exitcode == 0


def local_children(queue):
    contexts = [cloudpool.get_context(name) for name in ("fork", "spawn")]
    processes = [ctx.Process(target=about, args=(queue,)) for ctx in contexts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    queue.put([(p.pid, p.exitcode) for p in processes])


def test_processes_of_a_far_process_on_its_own_host(far, start):
    queue = far.Queue()
    process = start(local_children, queue)
    said = [queue.get(timeout=30) for _ in range(3)]
    assert [code for _, code in said[2]] == [0, 0]
    assert {pid for pid, _ in said[2]} == {said[0][0], said[1][0]}
    assert (
        {s[1] for s in said[:2]} == {s[5] for s in said[:2]} == {process.pid}
    )  # getppid(), parent_process().pid


def signal_parent():
    os.kill(os.getppid(), signal.SIGUSR1)


def hear_of_child(queue):
    heard = []
    signal.signal(signal.SIGUSR1, lambda *_: heard.append(os.getpid()))
    child = cloudpool.get_context("spawn").Process(target=signal_parent)
    child.start()
    child.join()
    queue.put((child.exitcode, heard))


def test_spawned_process_of_a_far_process_signals_its_parent(far, start):
    queue = far.Queue()
    process = start(hear_of_child, queue)
    assert queue.get(timeout=30) == (0, [process.pid])


def ask(queue):
    try:
        input()
    except EOFError:
        queue.put("EOFError")


def test_input_is_at_its_end(far, start):
    queue = far.Queue()
    start(ask, queue)
    assert queue.get(timeout=30) == "EOFError"


def draw(queue):
    import numpy as np

    queue.put((random.random(), float(np.random.random())))  # noqa: NPY002 - the global state is the point


def test_random_states_differ(far, start):
    needed("numpy")
    queue = far.Queue()
    random.seed(1)
    for _ in range(4):
        start(draw, queue)
    drawn = [queue.get(timeout=30) for _ in range(4)]
    assert len({number for pair in drawn for number in pair}) == 8


def surroundings(queue, names):
    mask = os.umask(0)
    os.umask(mask)
    queue.put((
        {name: os.environ.get(name) for name in names},
        mask,
        sys.argv,
        os.path.basename(os.getcwd()),
        sys.flags.dev_mode,
        sys.getdefaultencoding(),
    ))  # fmt: skip


def test_environment_umask_and_arguments_are_the_parents(far, start, monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL", "größe")
    monkeypatch.setenv("SERVICE_PASSWORD", "hunter2")
    monkeypatch.setenv("API_TOKEN", "hunter2")
    monkeypatch.setattr(sys, "argv", ["program", "--depth", "3"])
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        queue = far.Queue()
        start(surroundings, queue, ["MODEL", "SERVICE_PASSWORD", "API_TOKEN"])
        environment, mask, argv, folder, _, encoding = queue.get(timeout=30)
    finally:
        os.umask(before)
    assert environment == {"MODEL": "größe", "SERVICE_PASSWORD": None, "API_TOKEN": None}
    assert (mask, argv, folder, encoding) == (0o027, ["program", "--depth", "3"], tmp_path.name, "utf-8")


def test_remote_exception_of_a_pool_has_its_traceback(far):
    with far.Pool(1) as pool, pytest.raises(LookupError, match="of the test") as caught:
        pool.apply(fail)
    told = "".join(traceback.format_exception(caught.value))
    assert "RemoteTraceback" in told
    assert 'raise LookupError("of the test")' in told


def test_lambdas_and_closures_travel(far):
    with far.Pool(2) as pool:
        assert pool.map(lambda x: x * factor(3), range(5)) == [0, 3, 6, 9, 12]


def factor(x):
    return x


def test_a_descriptor_cannot_go_to_another_machine(far, tmp_path):
    here, there = __import__("multiprocessing").Pipe()
    with here, there, pytest.raises(ValueError, match="Give it a cloudpool Pipe or Queue"):
        far.Process(target=abs, args=(there,)).start()


def test_what_cannot_be_pickled_is_refused_at_start(far):
    with pytest.raises(TypeError, match="pickle"):
        far.Process(target=abs, args=((x for x in ()),)).start()


def test_process_that_was_never_joined_leaves_no_descriptor(far):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    process = far.Process(target=abs, args=(-1,))
    process.start()
    process.join()
    before = descriptors()
    for _ in range(5):
        process = far.Process(target=abs, args=(-1,))
        process.start()
        until(lambda process=process: process.exitcode is not None)
    del process
    assert descriptors() <= before


def where(queue):
    queue.put((os.getcwd(), time.time(), str(pathlib.Path(__file__).parent)))


def test_modules_come_from_the_bundle_and_not_from_this_machine(far, start):
    queue = far.Queue()
    start(where, queue)
    folder, _, place = queue.get(timeout=30)
    assert place != str(pathlib.Path(__file__).parent)
    assert place.endswith(str(pathlib.Path(__file__).parent))
    assert folder.endswith(os.getcwd())


# -- where the program has chosen itself ------------------------------------------------------------------------------------

RUN = ("-m", "cloudpool", "run", "main.py")
CHOOSES = """
import multiprocessing, os, sys

def where():
    print(multiprocessing.get_start_method(), os.getpid() > 2**22, flush=True)

if __name__ == "__main__":
    what, method = sys.argv[1:]
    if what == "set_start_method":
        multiprocessing.set_start_method(method)
        context = multiprocessing
    else:
        context = multiprocessing.get_context(method)
    for _ in range(2):
        process = context.Process(target=where)
        process.start()
        process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_program_that_sets_a_method_of_this_machine_goes_where_it_is_sent(script, method):
    status, out, err = script(CHOOSES, "set_start_method", method, launch=RUN).end()
    assert (status, out, err) == (0, "subprocess True\n" * 2, "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_context_that_the_program_names_is_that_and_who_sent_it_elsewhere_is_told_once(script, method):
    status, out, err = script(CHOOSES, "get_context", method, launch=RUN).end()
    assert (status, out) == (0, f"{method} False\n" * 2)
    [line] = err.splitlines()
    assert f"itself names '{method}': those processes are on this machine, not on 'subprocess'." in line


def test_who_asks_what_was_set_is_told_where_it_goes(script):
    program = """
import multiprocessing
multiprocessing.set_start_method("spawn", force=True)
print(multiprocessing.get_start_method())
multiprocessing.set_start_method(None, force=True)
print(multiprocessing.get_start_method())
try:
    multiprocessing.set_start_method("fork")
except RuntimeError as error:
    print(error)
multiprocessing.set_start_method("fork", force=True)
print(multiprocessing.get_start_method())
try:
    multiprocessing.set_start_method("nowhere", force=True)
except ValueError as error:
    print(error)
"""
    status, out, err = script(program, launch=RUN).end()
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "subprocess",
        "subprocess",
        "context has already been set",
        "subprocess",
        "cannot find context for 'nowhere'",
    ]


def test_a_manager_with_an_address_of_this_machine_is_here_and_nobody_is_told(script):
    program = """
from multiprocessing.managers import BaseManager

class Manager(BaseManager):
    pass

def greeting():
    return "hello"

Manager.register("greeting", callable=greeting)

if __name__ == "__main__":
    with Manager(address=("127.0.0.1", 0), authkey=b"x") as manager:
        print(manager.greeting())
"""
    assert script(program, launch=RUN).end() == (0, "'hello'\n", "")
