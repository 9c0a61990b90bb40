"""However a program ends, it leaves no process, no server, no folder and no key; and it ends as with the stdlib."""

import os
import select
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import until

from cloudpool.store.wire import open_url

ROOT = str(Path(__file__).parents[1])

PROGRAM = """
import os, signal, sys
import cloudpool as multiprocessing

def forever(event):
    event.wait()

def stay(_):
    signal.pause()

def main(ending):
    event, queue, pipe = multiprocessing.Event(), multiprocessing.JoinableQueue(), multiprocessing.Pipe()
    value, lock = multiprocessing.Value("i"), multiprocessing.Lock()
    manager = multiprocessing.Manager()
    shared = manager.dict(a=1)
    from cloudpool.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=100_000)
    queue.put("left"); queue.put(b"x" * 1_000_000)
    lock.acquire()
    multiprocessing.Process(target=forever, args=(event,), daemon=True).start()
    if ending not in ("return", "raise", "exit"):
        multiprocessing.Process(target=forever, args=(event,)).start()
    else:
        multiprocessing.Process(target=abs, args=(-1,)).start()
    pool = multiprocessing.Pool(2)
    assert pool.map(abs, [-1, -2]) == [1, 2]
    pending = pool.map_async(stay, range(2))
    from cloudpool.host import session
    print(session.current().info.folder, flush=True)
    sys.stdin.readline()
    if ending == "raise":
        raise ValueError("the program's own")
    if ending == "exit":
        sys.exit(3)
    if ending == "os._exit":
        os._exit(4)
    if ending == "wait":
        pending.get()

if __name__ == "__main__":
    main(sys.argv[1])
"""

# how the program goes on, the signal that ends it, whether its whole group gets that, and its exit status
ENDINGS = {
    "return": ("return", None, False, 0),
    "exception": ("raise", None, False, 1),
    "sys.exit": ("exit", None, False, 3),
    "os._exit": ("os._exit", None, False, 4),
    "SIGTERM": ("wait", signal.SIGTERM, False, -signal.SIGTERM),
    "SIGKILL": ("wait", signal.SIGKILL, False, -signal.SIGKILL),
    "Ctrl-C": ("wait", signal.SIGINT, True, -signal.SIGINT),
}


class Watch:
    """Everything that belongs to one program: found by a mark in its environment, and by its folder in command lines."""

    def __init__(self) -> None:
        self.mark = f"CLOUDPOOL_OF_TEST={uuid.uuid4()}"
        self.folder = ""
        self._pidfds: dict[int, int] = {}

    def environment(self, **more: str) -> dict[str, str]:
        name, value = self.mark.split("=")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDPOOL_")}
        return {**environment, "PYTHONPATH": ROOT, name: value, "PYTHONWARNINGS": "ignore", **more}

    def processes(self) -> set[int]:
        found = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                cmdline = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:  # it has gone meanwhile
                continue
            if self.mark.encode() in environ or (self.folder and self.folder.encode() in cmdline):
                found.add(int(pid))
        return found

    def hold(self) -> int:
        """Take a descriptor of each, to be told of its end. How many there are."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # it has gone meanwhile
                self._pidfds[pid] = os.pidfd_open(pid)
        return len(self._pidfds)

    def await_ends(self, timeout_s: float = 10.0) -> set[int]:
        """Those that have not ended by then."""
        poller = select.poll()
        left = dict(self._pidfds)
        for pidfd in left.values():
            poller.register(pidfd, select.POLLIN)
        while left and (ended := poller.poll(timeout_s * 1000)):
            for fd, _ in ended:
                poller.unregister(fd)
                left = {pid: pidfd for pid, pidfd in left.items() if pidfd != fd}
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        return set(left)


def begin(watch: Watch, url: str | None, ending: str, program: str = PROGRAM) -> subprocess.Popen[str]:
    more = {"CLOUDPOOL_REDIS_URL": url} if url else {}
    return subprocess.Popen(
        [sys.executable, "-c", program, ending], env=watch.environment(**more), text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["embedded", "tcp"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_left(kind, ending, request):
    server = request.getfixturevalue("tcp_server") if kind == "tcp" else None
    goes_on, number, whole_group, status = ENDINGS[ending]
    watch = Watch()
    program = begin(watch, server.url if server else None, goes_on)
    watch.folder = program.stdout.readline().strip()
    assert os.path.isdir(watch.folder)
    assert watch.hold() >= 5  # root, agent, child, two workers
    if goes_on != "wait":
        _, said = program.communicate("\n", timeout=20)
    else:
        program.stdin.write("\n")
        program.stdin.flush()
        (os.killpg if whole_group else os.kill)(program.pid, number)
        _, said = program.communicate(timeout=20)
    assert watch.await_ends() == set()
    assert program.returncode == status, said
    assert watch.processes() == set()
    assert not os.path.exists(watch.folder)
    if server is not None:
        store = open_url(server.url)
        assert store.call("KEYS", "*") == []
        store.close()
    assert "resource_tracker" not in said
    if ending in ("return", "os._exit", "sys.exit"):
        assert said == ""
    if ending == "exception":
        assert said.count("Traceback") == 1
    if ending == "Ctrl-C":
        assert said.count("in main\n") <= 1


SHARES_NOTHING = """
import os
import cloudpool as multiprocessing
from cloudpool.host import session

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=abs, args=(1,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert session.existing() is None
    print("no session", flush=True)
    input()
"""


def test_program_that_shares_nothing_has_no_agent_and_no_server():
    watch = Watch()
    program = begin(watch, "redis://127.0.0.1:1/0", "return", SHARES_NOTHING)  # where nothing listens
    assert program.stdout.readline() == "no session\n"
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in watch.processes()]
    assert not any(b"cloudpool.host.boot" in name for name in names)
    _, said = program.communicate("\n", timeout=20)
    assert (program.returncode, said) == (0, "")
    assert watch.processes() == set()


def run(folder: Path, program: str, *arguments: str, **more: str) -> tuple[int, str, str]:
    """Its status, and what it says on stdout and stderr."""
    script = folder / "program.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script), *arguments], env=Watch().environment(**more), text=True, capture_output=True,
        timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


DAEMONS = """
import sys, threading
import cloudpool as multiprocessing

def use_all(is_root=False):
    global writer
    event, lock, condition = context.Event(), context.Lock(), context.Condition()
    semaphore, queue, busy = context.Semaphore(0), context.Queue(), context.Queue()
    value, (reader, writer) = context.Value("i"), context.Pipe()
    lock.acquire()
    def wait_for_condition():
        with condition:
            condition.wait()
    def count():
        while True:
            with value.get_lock():
                value.value += 1
    def put_and_get():
        while True:
            busy.put(1)
            busy.get()
    uses = [event.wait, lock.acquire, wait_for_condition, semaphore.acquire, queue.get, reader.recv, count, put_and_get]
    if is_root:
        pool = context.Pool(1)
        uses.append(lambda: pool.apply(event.wait))
    for use in uses:
        threading.Thread(target=use, daemon=True).start()
    while value.value < 100:
        pass

context = multiprocessing.get_context(sys.argv[1])
if __name__ == "__main__":
    if sys.argv[2] == "root":
        use_all(is_root=True)
    else:
        process = context.Process(target=use_all)
        process.start()
        process.join()
        assert process.exitcode == 0
    print("end")
"""


@pytest.mark.parametrize("kind", ["embedded", "tcp"])
@pytest.mark.parametrize("place", ["fork root", "fork child", "spawn child", "forkserver child"])
def test_daemon_threads_hear_nothing_of_the_end(kind, place, tmp_path, request):
    more = {"CLOUDPOOL_REDIS_URL": request.getfixturevalue("tcp_server").url} if kind == "tcp" else {}
    assert run(tmp_path, DAEMONS, *place.split(), **more) == (0, "end\n", "")


EXIT_HANDLERS = """
import atexit, sys
{first}
import cloudpool as multiprocessing

def add():
    with value.get_lock():
        value.value += 1

@atexit.register
def report():
    if sys.version_info[:2] == (3, 12):  # which lets nothing fork any more
        add()
    else:
        process = context.Process(target=add)
        process.start()
        process.join()
    with lock:
        print(value.value, reader.recv(), event.is_set(), session.current().info.folder)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    from cloudpool.host import session
    value, lock, event, (reader, writer) = context.Value("i"), context.Lock(), context.Event(), context.Pipe()
    event.set()
    writer.send("sent")
    context.Process(target=add).start()
"""


@pytest.mark.parametrize("first", ["", "import multiprocessing.util"])
def test_exit_handlers_registered_before_the_first_object_have_it_still(first, tmp_path):
    status, said, complaint = run(tmp_path, EXIT_HANDLERS.format(first=first))
    assert (status, complaint) == (0, "")
    *found, folder = said.split()
    assert found[1:] == ["sent", "True"]
    until(lambda: not os.path.exists(folder))


LATE_POOL = """
import atexit, sys, threading
import cloudpool as multiprocessing

def square(x):
    return x * x

def late():
    if threading.current_thread() is not threading.main_thread():
        threading.main_thread().join()
    for _ in range(2):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(square, range(4)))

if __name__ == "__main__":
    if sys.argv[1] == "thread":
        threading.Thread(target=late).start()
    else:
        atexit.register(late)
"""


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="Python 3.12 lets nothing fork, and no thread start, by then"
)
@pytest.mark.parametrize("where", ["thread", "exit handler"])
def test_first_pool_may_come_when_the_main_thread_has_ended(where, tmp_path):
    assert run(tmp_path, LATE_POOL, where) == (0, "[0, 1, 4, 9]\n" * 2, "")


EXECUTOR = """
import sys
import cloudpool

def tell(released, number):
    released.wait()
    print("task", number, flush=True)

if __name__ == "__main__":
    released = cloudpool.Manager().Event()
    executor = cloudpool.Executor(1)
    for number in range(5):
        executor.submit(tell, released, number)
    if sys.argv[1] == "dropped":
        del executor
    if sys.argv[1] == "shut down":
        executor.shutdown(wait=False)
    released.set()
    if sys.argv[1] == "lost":
        from cloudpool.host import session
        session.current().channel().call("FLUSHALL")
    if sys.argv[1] == "raise":
        raise ValueError("the program's own")
"""


@pytest.mark.parametrize("ending", ["return", "dropped", "shut down", "raise"])
def test_executor_without_shutdown_runs_what_was_submitted(ending):
    watch = Watch()
    said, errors = begin(watch, None, ending, EXECUTOR).communicate(timeout=60)
    assert said.split("\n") == [*(f"task {number}" for number in range(5)), ""]
    assert errors.count("Traceback") == (ending == "raise")


def test_executor_without_shutdown_does_not_wait_for_a_lost_session():
    watch = Watch()
    program = begin(watch, None, "lost", EXECUTOR)
    program.communicate(timeout=60)
    assert program.returncode == 0
