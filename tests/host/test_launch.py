"""A session gets ready while what asks for it is imported: what comes in between."""

import os
import subprocess
import sys

from waiting import until


def program(*lines: str) -> str:
    """Run that; what it has printed."""
    head = "import os, signal, threading\nimport cloudpool\nfrom cloudpool.host import session as sessions"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join((head, *lines))], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# What asks for a session, and is refused before it has it.
REFUSED = """
try:
    cloudpool.Pool(0)
except ValueError:
    pass
FOLDER = sessions._launch.info.folder
print(FOLDER, flush=True)
assert sessions.existing() is None
"""


def test_it_goes_with_the_program_that_never_asks_for_it():
    folder = program(REFUSED)
    until(lambda: not os.path.exists(folder))


def test_it_is_what_the_next_primitive_has():
    folder = program(REFUSED, "cloudpool.Lock()", "assert sessions.current().info.folder == FOLDER")
    until(lambda: not os.path.exists(folder))


def test_a_forked_child_has_its_own():
    folder = program(
        REFUSED,
        "pid = os.fork()",
        "lock = cloudpool.Lock()",
        "if pid:",
        "    assert sessions.current().info.folder == FOLDER",
        "    assert os.waitpid(pid, 0)[1] == 0",
        "else:",
        "    own = sessions.current()",
        "    is_well = own.is_root and own.info.folder != FOLDER and cloudpool.Pool(1).map(abs, [-1]) == [1]",
        "    own.close()",
        "    os._exit(not is_well)",
    )
    until(lambda: not os.path.exists(folder))


def test_threads_that_ask_at_once_have_the_same():
    program(
        "started, folders = threading.Barrier(8), []",
        "def make():",
        "    started.wait()",
        "    cloudpool.Queue()",
        "    folders.append(sessions.current().info.folder)",
        "threads = [threading.Thread(target=make) for _ in range(8)]",
        "for thread in threads: thread.start()",
        "for thread in threads: thread.join()",
        "assert len(folders) == 8 and len(set(folders)) == 1, folders",
        "assert sessions._launch is None",
    )


def test_who_leaves_ends_it():
    program(
        REFUSED,
        "sessions.leave()",
        "assert sessions._launch is None and not os.path.exists(FOLDER)",
        "cloudpool.Lock()",
        "assert sessions.current().info.folder != FOLDER",
    )


def test_it_ends_where_another_start_method_is_set_meanwhile():
    """Hosts of that kind must reach its server."""
    program(
        REFUSED,
        "cloudpool.set_start_method('spawn', force=True)",
        "cloudpool.Lock()",
        "assert sessions.current().info.folder != FOLDER",
        "assert not os.path.exists(FOLDER)",
    )


def test_a_program_that_waits_for_whatever_ends():
    program("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "assert cloudpool.Lock().acquire()")
