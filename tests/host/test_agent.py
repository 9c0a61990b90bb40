"""The agent from outside: it starts and ends with the root, and sweeps what dead agents have left."""

import fcntl
import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import until

import cloudpool
from cloudpool.host import folder as folders, mail, session as sessions
from cloudpool.store.binary import find_server
from cloudpool.store.embedded import Server

ROOT = str(Path(__file__).parents[2])
RECVMSG = ("47", "212")  # on x86-64, on ARM


def boot(root_pid, folder, said, url=""):
    """Start an agent as a root does, that says on the descriptor `said` how it went."""
    url_r, url_w = os.pipe()
    os.write(url_w, marshal.dumps((url, b"", "", 0.0, -1, -1, None)))
    os.close(url_w)
    program = "from cloudpool.host.boot import main; main()"
    arguments = [
        "test",
        folder,
        "" if url else find_server(),
        str(root_pid),
        "15",
        "False",
        str(url_r),
        str(said),
    ]
    subprocess.run(
        [sys.executable, "-c", program, *arguments], pass_fds=(url_r, said), env={**os.environ, "PYTHONPATH": ROOT},
        check=True, timeout=20,
    )  # fmt: skip
    os.close(url_r)


@pytest.fixture
def folder():
    """A folder that nobody has claimed, as one who starts a session has it."""
    folder, making = folders.make()
    yield folder
    os.close(making)


def agents_end(held):
    """The end of file of a pipe that only the agent has."""
    poller = select.poll()
    poller.register(held, select.POLLHUP)
    return bool(poller.poll(10_000))


def agent_pid():
    agent = sessions.current()._agent
    assert agent is not None
    return int.from_bytes(agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)


def ended_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_root_that_ended_while_the_session_started_leaves_nothing(folder):
    held, said = os.pipe()
    boot(ended_process(), folder, said)
    os.close(said)
    assert agents_end(held)
    os.close(held)
    assert not os.path.exists(folder)


def test_root_that_is_killed_before_it_hears_that_all_is_ready_leaves_nothing(folder):
    alive, tell = os.pipe()
    heard, said = os.pipe()
    os.close(heard)  # nobody will hear it
    root = subprocess.Popen(["cat"], stdin=alive)
    boot(root.pid, folder, said)
    os.close(said)
    while not os.path.exists(os.path.join(folder, mail.SOCKET)):  # made after the lock was taken
        time.sleep(0.001)
    lock = os.open(os.path.join(folder, folders.LOCK), os.O_RDWR)
    root.kill()
    root.wait()
    fcntl.flock(lock, fcntl.LOCK_EX)  # the agent's for as long as it lives
    for fd in (lock, alive, tell):
        os.close(fd)
    assert not os.path.exists(folder)


def test_sweep_takes_the_folder_and_the_server_of_a_dead_agent(folder):
    server = Server.start(find_server(), folder, os.path.join(folder, folders.SERVER_SOCKET))
    server.await_ready()
    Path(folder, folders.LOCK).touch()
    Path(folder, folders.SERVER_PID).write_text(str(server.pid))
    Path(folder, "blob.1.1").write_bytes(b"left")
    folders.sweep()
    _, status = os.waitpid(server.pid, 0)
    os.close(server.log)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert not os.path.exists(folder)


def test_sweep_leaves_what_lives_and_what_is_just_being_made(folder):
    living, (new, making) = folder, folders.make()
    held = folders.claim(living)
    folders.sweep()
    assert os.path.isdir(living)
    assert os.path.isdir(new)
    os.close(held)
    os.close(making)
    Path(new, folders.LOCK).touch()
    folders.sweep()
    assert not os.path.exists(living)
    assert not os.path.exists(new)


def test_sweep_leaves_folders_that_only_look_like_a_sessions(folder):
    base = Path(folder).parent
    others = [base / f"{folders.PREFIX}{os.urandom(4).hex()}-data", Path(f"{folder}.files")]
    full, empty = (base / (folders.PREFIX + os.urandom(6).hex()) for _ in range(2))
    for other in (*others, full, empty):
        other.mkdir()
    (full / "something").touch()
    try:
        folders.sweep()
        assert [other.is_dir() for other in (*others, full, empty)] == [True, True, True, False]
    finally:
        for other in (*others, full):
            shutil.rmtree(other)


STARTING = """
import os, sys
from cloudpool.host import launch
sys.executable = {wrapper!r}
begun = launch.begin()
print(begun.info.folder, flush=True)
begun.finish()
"""


@pytest.mark.parametrize("whom", ["root and agent", "root"])
def test_sweep_takes_the_folder_of_a_session_whose_start_was_killed_and_no_earlier(whom, tmp_path):
    agent = tmp_path / "agent"
    os.mkfifo(tmp_path / "go")
    agent.write_text(f'#!/bin/sh\nread go < {tmp_path}/go\nexec {sys.executable} "$@"\n')
    agent.chmod(0o700)
    root = subprocess.Popen(
        [sys.executable, "-c", STARTING.format(wrapper=str(agent))], env={**os.environ, "PYTHONPATH": ROOT},
        text=True, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    folder = root.stdout.readline().strip()
    folders.sweep()
    assert os.listdir(folder) == []
    if whom == "root":
        root.kill()
        root.wait()
        folders.sweep()
        assert os.path.isdir(folder)  # the agent's now, which will see that its root has gone
        (tmp_path / "go").write_text("go\n")
        until(lambda: not os.path.exists(folder))
    else:
        os.killpg(root.pid, signal.SIGKILL)
        root.wait()
        until(lambda: folders.sweep() or not os.path.exists(folder))
    root.stdout.close()


def test_sweep_in_the_moment_before_a_new_folder_is_held_has_another_one_made(monkeypatch):
    flock, taken = fcntl.flock, []

    def sweep_first(fd, how):
        monkeypatch.undo()
        taken.append(os.readlink(f"/proc/self/fd/{fd}"))
        folders.sweep()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    folder, making = folders.make()
    assert os.path.isdir(folder)
    assert not os.path.exists(taken[0])
    folders.remove(folder)
    os.close(making)


def test_sweep_in_the_moment_of_an_agents_start_leaves_its_folder(folder, monkeypatch):
    flock = fcntl.flock

    def sweep_first(fd, how):
        monkeypatch.undo()
        folders.sweep()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    held = folders.claim(folder)
    folders.sweep()
    assert os.path.exists(folder)
    folders.remove(folder)
    os.close(held)


def test_sweep_spares_a_process_that_has_the_dead_servers_number(folder):
    stranger = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    Path(folder, folders.LOCK).touch()
    Path(folder, folders.SERVER_PID).write_text(str(stranger.pid))
    folders.sweep()
    assert not os.path.exists(folder)
    stranger.communicate()
    assert stranger.returncode == 0


def test_folder_is_its_owners_alone(folder):
    assert os.stat(folder).st_mode & 0o777 == 0o700
    folders.remove(folder)


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1), (0, 1, 2)], ids=str)
def test_program_without_standard_descriptors_has_a_session(tmp_path, closed):
    result = tmp_path / "result"
    program = f"""
import os
[os.close(fd) for fd in {closed}]
import cloudpool
with cloudpool.get_context("fork").Pool(1) as pool:
    open({str(result)!r}, "w").write(str(pool.map(abs, [-1])))
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, env={**os.environ, "PYTHONPATH": ROOT})
    assert result.read_text() == "[1]"


def use(queue, number, told):
    """Say hello to the agent, which is what a process's first use of an object does."""
    queue.put(number)
    told.wait()


def test_processes_that_are_killed_before_the_agent_hears_of_them_cost_no_other_its_life(server):
    ctx = cloudpool.get_context("fork")
    queue, told = ctx.SimpleQueue(), ctx.Event()
    queue.put(0)
    queue.get()
    pid = agent_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        processes = [ctx.Process(target=use, args=(queue, number, told)) for number in range(24)]
        for process in processes:
            process.start()
            while Path(f"/proc/{process.pid}/syscall").read_text().split()[0] not in RECVMSG:
                os.sched_yield()  # until it waits for the agent's answer
        for process in processes[:12]:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert sorted(queue.get() for _ in processes[12:]) == list(range(12, 24))
    told.set()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 12 + [0] * 12


def test_orderly_end_is_none_too_soon_though_much_was_said_before_it(server):
    """The agent, which was behind, reads all that a process has said before it deals with its end."""
    ctx = cloudpool.get_context("fork")
    lock, (told, tell), (said, say) = ctx.Lock(), ctx.Pipe(False), ctx.Pipe(False)

    def end_in_order_with_the_lock():
        lock.acquire()
        say.send("has it")
        told.recv()
        for _ in range(150):
            sessions.current()._tell("pin", lock._semlock._id)

    process = ctx.Process(target=end_in_order_with_the_lock)
    process.start()
    assert said.recv() == "has it"
    pid = agent_pid()
    os.kill(pid, signal.SIGSTOP)
    tell.send("go")
    process.join()
    os.kill(pid, signal.SIGCONT)
    for _ in range(2):
        sessions.current()._ask("settle")
    assert process.exitcode == 0
    assert not lock.acquire(block=False)  # its locks are not passed on, as with the stdlib
