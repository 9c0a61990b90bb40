"""Hosts that die, stand still or are cut off: nothing hangs, nothing is lost, and nothing of theirs goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from far_hosts import children, lives
from waiting import until

import cloudpool
from cloudpool.errors import CloudpoolError, SessionLostError, WorkerLostError
from cloudpool.host import identity, session as sessions
from cloudpool.managers import BaseManager

sys.path.insert(0, str(Path(__file__).parents[1] / "faults" / "tools"))

LEASE_S = 2


def kernels_pid():
    return identity.kernels_pid()


def slowly(item):
    time.sleep(0.02)  # the work
    return item * item, identity.kernels_pid()


def stay(queue):
    queue.put(identity.kernels_pid())
    while True:
        signal.pause()


def leave_one_behind(queue):
    queue.put(subprocess.Popen(["sleep", "60"], start_new_session=True).pid)


def die_once(item, path, how):
    """Item 7 ends its worker, the first time."""
    if item == 7:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            print("the last line of item 7", flush=True)
            if how == "os._exit":
                os._exit(9)
            os.kill(os.getpid(), how)
            signal.pause()
    return item * item


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, "os._exit", signal.SIGSEGV], ids=["SIGKILL", "os._exit", "SIGSEGV"]
)
def test_task_of_a_worker_that_ends_runs_again(far, tmp_path, how):
    with far.Pool(3) as pool:
        arguments = [(n, str(tmp_path / "died"), how) for n in range(30)]
        assert pool.starmap(die_once, arguments, chunksize=2) == [n * n for n in range(30)]
    assert (tmp_path / "died").exists()


def die_always(item):
    if item == 3:
        print(f"item {item} is too much", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
    return item


def test_worker_that_always_dies_is_told_with_its_last_lines(far):
    with far.Pool(2) as pool:
        with pytest.raises(WorkerLostError, match="SIGKILL") as caught:
            pool.map(die_always, range(6), chunksize=1)
        assert any("item 3 is too much" in line for line in caught.value.last_lines)
        assert pool.map(abs, [-1, -2]) == [1, 2]


def refuse():
    raise LookupError("an initializer that fails")


def test_initializer_that_fails_is_told_by_the_pool(far):
    with (
        far.Pool(2, initializer=refuse) as pool,
        pytest.raises(LookupError, match="an initializer that fails"),
    ):
        pool.map(abs, [1])


def in_the_middle(pool, hosts, items):
    """A map that has begun, and a host on which tasks of it run."""
    host = hosts.of(pool.apply(kernels_pid))
    results = pool.imap(slowly, range(items))
    assert next(results)[0] == 0
    return results, host


@pytest.mark.parametrize("what", ["host", "agent", "zygote"])
def test_host_that_is_killed_in_a_map(session, hosts, what):
    far = session(lease_s=LEASE_S)
    with far.Pool(4) as pool:
        results, host = in_the_middle(pool, hosts, 200)
        belongings = hosts.everything(host)
        if what == "host":
            hosts.kill(host)
        else:
            os.kill(host if what == "agent" else hosts.zygote(host), signal.SIGKILL)
        assert [square for square, _ in results] == [n * n for n in range(1, 200)]
        gone = [pid for pid in belongings if what != "zygote" or pid != host]
        until(lambda: not any(map(lives, gone)))
        assert pool.map(abs, range(-8, 0)) == list(range(8, 0, -1))


def test_host_that_stands_still_for_less_than_a_lease_is_waited_for(session, hosts):
    far = session(lease_s=10)
    with far.Pool(4) as pool:
        workers = {worker.pid for worker in pool._pool}
        results, host = in_the_middle(pool, hosts, 100)
        stopped = hosts.stop(host)
        time.sleep(1)  # of the ten
        hosts.go_on(stopped)
        assert [square for square, _ in results] == [n * n for n in range(1, 100)]
        assert {worker.pid for worker in pool._pool} == workers


def test_host_that_stands_still_for_longer_is_dead_and_finds_that_when_it_comes_back(session, hosts):
    far = session(lease_s=LEASE_S)
    with far.Pool(4) as pool:
        results, host = in_the_middle(pool, hosts, 200)
        stopped = hosts.stop(host)
        try:
            assert [square for square, _ in results] == [n * n for n in range(1, 200)]
        finally:
            hosts.go_on(stopped)
        until(lambda: not any(map(lives, stopped)))


def take_and_stay(lock, semaphore, queue, tasks, event):
    lock.acquire()
    semaphore.acquire()
    tasks.get()
    queue.put(identity.kernels_pid())
    event.wait()


def test_what_a_killed_host_held_goes_on(session, hosts):
    far = session(lease_s=LEASE_S)
    lock, semaphore, queue, tasks = far.Lock(), far.BoundedSemaphore(1), far.Queue(), far.JoinableQueue()
    tasks.put("work")
    process = far.Process(target=take_and_stay, args=(lock, semaphore, queue, tasks, far.Event()))
    process.start()
    host = hosts.of(queue.get(timeout=30))
    assert not lock.acquire(timeout=0.01)
    hosts.kill(host)
    with pytest.warns(RuntimeWarning, match=str(process.pid)):
        assert lock.acquire(timeout=30)
    with pytest.warns(RuntimeWarning, match=str(process.pid)):
        assert semaphore.acquire(timeout=30)
    assert tasks.get(timeout=30) == "work"
    tasks.task_done()
    tasks.join()
    process.join(30)
    assert process.exitcode == 255


def send_and_stay(connection, queue):
    connection.send("alive")
    queue.put(identity.kernels_pid())
    signal.pause()


def wait_with_others(barrier, queue):
    queue.put(identity.kernels_pid())
    barrier.wait()


def test_pipes_end_and_barriers_break_when_a_host_is_killed(session, hosts):
    far = session(lease_s=LEASE_S)
    here, there = far.Pipe()
    queue, barrier = far.Queue(), far.Barrier(3)
    processes = [
        far.Process(target=send_and_stay, args=(there, queue)),
        far.Process(target=wait_with_others, args=(barrier, queue)),
    ]
    for process in processes:
        process.start()
    there.close()
    killed = {hosts.of(queue.get(timeout=30)) for _ in processes}
    assert here.recv() == "alive"
    until(lambda: barrier.n_waiting == 1)
    for host in killed:
        hosts.kill(host)
    with pytest.raises(EOFError):
        here.recv()
    until(lambda: barrier.broken)
    for process in processes:
        process.join(30)
        assert process.exitcode == 255


def pool_of_its_own(queue):
    with cloudpool.get_context("subprocess").Pool(3) as pool:
        queue.put(identity.kernels_pid())
        pool.map(stay, [queue] * 3, chunksize=1)


def test_workers_elsewhere_end_with_the_host_of_their_pool(session, hosts):
    far = session(lease_s=LEASE_S)
    queue = far.Queue()
    process = far.Process(target=pool_of_its_own, args=(queue,))
    process.start()
    host = hosts.of(queue.get(timeout=90))
    there = set(hosts.everything(host))
    elsewhere = {queue.get(timeout=90) for _ in range(3)} - there
    assert elsewhere
    hosts.kill(host)
    until(lambda: not any(map(lives, elsewhere)))
    process.join(30)
    assert process.exitcode == 255


def test_fleet_that_is_killed_is_told_of_and_started_anew(session, hosts, capfd):
    far = session()
    queue = far.Queue()
    process = far.Process(target=stay, args=(queue,))
    process.start()
    pid = queue.get(timeout=30)
    os.kill(hosts.fleet(), signal.SIGKILL)
    process.join(30)
    assert process.exitcode == 255
    assert "the program that keeps the hosts of subprocess has ended" in capfd.readouterr().err
    until(lambda: not lives(pid))
    again = far.Process(target=abs, args=(-1,))
    again.start()
    again.join(30)
    assert again.exitcode == 0


def test_idle_hosts_end_and_the_next_process_gets_a_new_one(session, hosts):
    far = session(idle_s=0.1)
    for _ in range(2):
        process = far.Process(target=abs, args=(-1,))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        until(lambda: not hosts.agents())


def test_process_that_no_host_can_come_for(session, capfd):
    far = session(TEST_REFUSE="there is no engine: start one")
    process = far.Process(target=abs, args=(-1,))
    process.start()
    process.join(30)
    assert process.exitcode == 255
    assert capfd.readouterr().err == "cloudpool: there is no engine: start one\n"


def test_hosts_that_would_store_payloads_on_their_own_disks_do_not_come(session, tmp_path, capfd):
    far = session(TEST_OWN_DISK=1, blob_url=f"file://{tmp_path}", start_method="subprocess")
    process = far.Process(target=abs, args=(-1,))
    process.start()
    process.join(30)
    assert process.exitcode == 255
    assert f"do not share the folder of blob_url, file://{tmp_path}, with this" in capfd.readouterr().err


def test_pool_that_no_host_can_come_for_raises(session):
    far = session(TEST_REFUSE="there is no engine: start one")
    with far.Pool(3) as pool, pytest.raises(CloudpoolError, match="there is no engine: start one"):
        pool.map(abs, [1])


def test_hosts_that_end_before_they_are_ready(session, capfd):
    far = session(TEST_COMMAND="false")
    process = far.Process(target=abs, args=(-1,))
    process.start()
    process.join(30)
    assert process.exitcode == 255
    assert "a host ended before it was ready: it ended with status 1" in capfd.readouterr().err


def test_hosts_that_never_come(session, capfd):
    far = session(TEST_COMMAND="sleep 100", start_timeout_s=1)
    process = far.Process(target=abs, args=(-1,))
    process.start()
    process.join(30)
    assert process.exitcode == 255
    assert "no host has come within 1 s (start_timeout_s)" in capfd.readouterr().err


def test_session_that_is_left_while_hosts_are_busy(session, hosts):
    far = session()
    queue = far.Queue()
    far.Process(target=stay, args=(queue,), daemon=True).start()
    queue.get(timeout=30)
    hosts.folders.clear()
    assert hosts.agents()
    sessions.leave()
    until(lambda: not hosts.all())
    assert not [folder for folder in hosts.folders if os.path.exists(folder)]
    with pytest.raises(SessionLostError):
        queue.put(1)


ENDLESS = """
import cloudpool as multiprocessing, os, signal, sys, time

def work(queue):
    queue.put(1)
    while True:
        try:
            time.sleep(1)
        except BaseException:  # user code that does not want to go
            pass

def sleep(_):
    time.sleep(100)

def main():
    queue = multiprocessing.Queue()
    for _ in range(3):
        multiprocessing.Process(target=work, args=(queue,)).start()
    pool = multiprocessing.Pool(2)
    for _ in range(3):
        queue.get()
    print("ready", flush=True)
    pool.map(sleep, range(10), chunksize=1)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("what", ["root", "root and agent"])
def test_root_that_is_killed_takes_everything_with_it(script, what):
    program = script(ENDLESS, lease_s=LEASE_S)
    assert program.line() == "ready"
    assert program.hosts.agents()
    agent = program.hosts.home_agent()
    pids = program.hosts.all()
    began = time.monotonic()
    program.process.kill()
    if what != "root":
        program.hosts.folders.clear()  # nobody is left to remove them but the next session's agent
        os.kill(agent, signal.SIGKILL)
    until(lambda: not any(map(lives, pids)), 60)
    assert time.monotonic() - began < LEASE_S + 30  # lease + 5 s on a machine that does nothing else
    program.end()


ONE_A_HOST = """
import cloudpool as multiprocessing, time

def work(queue):
    queue.put(1)
    time.sleep(1000)

if __name__ == "__main__":
    queue = multiprocessing.Queue()
    for _ in range(5):
        multiprocessing.Process(target=work, args=(queue,)).start()
    for _ in range(5):
        queue.get()
    print("ready", flush=True)
    queue.get()
"""


def test_hosts_of_a_silent_root_end_together(script, tcp_server):
    """Each when its own lease is over: that one has found out is no news of the root to another."""
    lease_s = 4
    program = script(ONE_A_HOST, lease_s=lease_s, redis_url=tcp_server.url, TEST_HOSTS=5, TEST_SLOTS=1)
    assert program.line() == "ready"
    hosts = program.hosts.agents()
    assert len(hosts) == 5
    stopped = [program.process.pid, program.hosts.home_agent(), program.hosts.fleet()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: not any(map(lives, hosts)), 3 * lease_s)  # 20 s one after the other
    program.hosts.go_on(stopped)
    program.process.kill()
    program.end()


def test_ctrl_c_ends_all_with_one_traceback(script):
    program = script(ENDLESS.replace("except BaseException", "except MemoryError"))
    assert program.line() == "ready"
    assert program.hosts.agents()
    program.process.send_signal(signal.SIGINT)
    code, _, complained = program.end()
    assert code == -signal.SIGINT
    assert complained.count("Traceback") == 1, complained
    assert complained.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("command", ["sleep 100", "false"])
def test_hosts_that_do_not_come_are_not_waited_for_where_there_is_one(session, command):
    far = session(TEST_COMMAND=command, TEST_READY=1, TEST_SLOTS=1, start_timeout_s=5)
    event = far.Event()
    processes = [far.Process(target=event.wait) for _ in range(2)]
    processes.append(far.Process(target=event.set))
    for process in processes:
        process.start()
    for process in processes:
        process.join(40)
    assert [process.exitcode for process in processes] == [0, 0, 0]


CAUGHT = """
import cloudpool as multiprocessing, sys, time

def work(queue):
    queue.put("ready")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        sys.exit(3)

if __name__ == "__main__":
    queue = multiprocessing.Queue()
    before = [multiprocessing.Process(target=work, args=(queue,)) for _ in range(2)]
    for process in before:
        process.start()
    for _ in before:
        queue.get()
    try:
        print("ready", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        pass
    after = multiprocessing.Process(target=queue.get)
    after.start()
    for process in before:
        process.join()
    queue.put("go")
    after.join()
    print([process.exitcode for process in (*before, after)])
"""


def test_interrupt_that_a_program_catches_reaches_those_that_it_then_joins(script):
    """Wherever it was when Ctrl-C came; but not those that it has started since."""
    program = script(CAUGHT)
    assert program.line() == "ready"
    program.process.send_signal(signal.SIGINT)
    code, said, complained = program.end()
    assert (code, said) == (0, "[3, 3, 0]\n")
    assert "Traceback" not in complained  # a host that came when all was over may say so


CROWD = """
import resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
import cloudpool

if __name__ == "__main__":
    event = cloudpool.Event()
    event.is_set()  # the agent is there, with its limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    processes = [cloudpool.Process(target=event.wait) for _ in range(24)]
    for process in processes:
        process.start()
    event.set()
    for process in processes:
        process.join()
    print(sorted(process.exitcode for process in processes))
"""


def test_more_far_processes_than_the_soft_limit_of_descriptors_has_room_for(script):
    status, out, err = script(CROWD).end()
    assert (status, out) == (0, f"{[0] * 24}\n"), err


def test_launch_whose_descriptors_do_not_arrive_is_refused_alone(session, hosts, capfd):
    far = session()
    queue = far.Queue()
    first = far.Process(target=stay, args=(queue,))
    first.start()
    queue.get(timeout=30)
    agent = hosts.home_agent()
    taken = {int(fd) for fd in os.listdir(f"/proc/{agent}/fd")}
    before = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    most = min(set(range(len(taken) + 1)) - taken) + 1  # one is free: of three, one arrives
    resource.prlimit(agent, resource.RLIMIT_NOFILE, (most, before[1]))
    refused = far.Process(target=abs, args=(-1,))
    refused.start()
    refused.join(30)
    resource.prlimit(agent, resource.RLIMIT_NOFILE, before)
    assert refused.exitcode == 255
    said = capfd.readouterr().err
    assert "no descriptors left for one more process" in said
    assert "Traceback" not in said, said
    last = far.Process(target=abs, args=(-1,))
    last.start()
    last.join(30)
    assert last.exitcode == 0
    first.kill()
    first.join(30)
    assert first.exitcode == -signal.SIGKILL


def test_orphans_of_a_hosts_processes_are_reaped(session, hosts):
    far = session(TEST_SUBREAPER=1)
    queue = far.Queue()
    process = far.Process(target=leave_one_behind, args=(queue,))
    process.start()
    left = queue.get(timeout=30)
    process.join(30)
    [agent] = hosts.agents()
    assert left in children(agent)
    os.kill(left, signal.SIGKILL)
    until(lambda: left not in children(agent))


class Counter:
    def count(self):
        return 5


class Counting(BaseManager):
    pass


Counting.register("Counter", Counter)


def call(counter, results):
    try:
        results.put(counter.count())
    except OSError as error:
        results.put(type(error))


@pytest.mark.timeout(60)
def test_call_to_a_manager_whose_process_was_killed_is_refused(session):
    far = session()
    manager = Counting(ctx=far)
    manager.start()
    counter, results = manager.Counter(), far.Queue()
    assert counter.count() == 5
    manager._process.kill()
    manager._process.join()
    with pytest.raises((ConnectionRefusedError, EOFError)):
        counter._connect()
    elsewhere = far.Process(target=call, args=(counter, results))
    elsewhere.start()
    assert results.get(timeout=30) is ConnectionRefusedError
    elsewhere.join(30)
