"""What far processes print comes out of the program's stdout and stderr: whole lines, in order, all of them, in time."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import defaultdict

from waiting import until

LINES = int(os.environ.get("TEST_LINES", "100000"))

PRINTING = """
import cloudpool as multiprocessing, sys

def work(name, count):
    for n in range(count):
        print(name, n, "x" * 40)

if __name__ == "__main__":
    count = int(sys.argv[1])
    processes = [multiprocessing.Process(target=work, args=(name, count)) for name in range(4)]
    for process in processes: process.start()
    for process in processes: process.join()
    print("all", [process.exitcode for process in processes])
"""


def test_many_lines_of_four_at_once(script):
    """Nothing is lost, no line is broken, each one's are in order, and all are there before its end is known."""
    code, said, complained = script(PRINTING, str(LINES // 4)).end(timeout_s=110)
    assert (code, complained) == (0, "")
    lines = said.splitlines()
    assert lines[-1] == "all [0, 0, 0, 0]"
    numbers = defaultdict(list)
    for line in lines[:-1]:
        name, n = re.fullmatch(r"(\d) (\d+) x{40}", line).groups()
        numbers[name].append(int(n))
    assert numbers == {str(name): list(range(LINES // 4)) for name in range(4)}


KINDS = """
import cloudpool as multiprocessing, logging, os, subprocess, sys, warnings

def work():
    sys.stdout.write("no newline")
    sys.stdout.flush()
    print(" and its end")
    print("on stderr", file=sys.stderr)
    warnings.warn("a warning of the test")
    logging.basicConfig(level=logging.INFO, force=True)
    logging.getLogger("model").info("a record")
    multiprocessing.log_to_stderr().warning("of multiprocessing")
    os.write(1, b"by descriptor\\n")
    subprocess.run(["echo", "by a command"])
    sys.stdout.buffer.write("größe\\n".encode())
    print("the last, without a newline", end="")

def silent():
    os.close(1); os.close(2)

if __name__ == "__main__":
    for target in (work, silent):
        process = multiprocessing.Process(target=target)
        process.start()
        process.join()
    print("|", process.exitcode)
"""


def test_kinds_of_output(script):
    code, said, complained = script(KINDS).end()
    assert code == 0, complained
    assert said.splitlines() == [
        "no newline and its end", "by descriptor", "by a command", "größe", "the last, without a newline| 0",
    ]  # fmt: skip
    assert "on stderr\n" in complained
    assert "UserWarning: a warning of the test" in complained
    assert "INFO:model:a record" in complained
    assert "of multiprocessing" in complained


WATCHED = """
import cloudpool as multiprocessing, sys

def work(event):
    print("first")
    event.wait()
    print("second")

if __name__ == "__main__":
    event = multiprocessing.Event()
    process = multiprocessing.Process(target=work, args=(event,))
    process.start()
    sys.stdin.readline()
    event.set()
    process.join()
"""


def test_a_line_is_seen_while_its_process_goes_on(script):
    program = script(WATCHED)
    assert program.line() == "first"
    assert program.end("go\n")[1] == "second\n"


SLOW_READER = """
import cloudpool as multiprocessing

def work(value):
    line = "x" * 999 + "\\n"
    for n in range(100_000):
        print(line, end="")
        value.value = n

if __name__ == "__main__":
    value = multiprocessing.Value("i", lock=False)
    process = multiprocessing.Process(target=work, args=(value,))
    process.start()
    process.join()
"""


def test_reader_that_is_slow_slows_the_printer_and_fills_no_memory(script):
    """A hundred megabytes for a reader who does not read: the agents keep some tens of them."""
    program = script(SLOW_READER)
    assert program.line() == "x" * 999
    agent = program.hosts.home_agent()
    [host] = program.hosts.agents()

    def cpu():
        return sum(ticks(pid) for pid in [host, agent, *program.hosts.everything(host)])

    def stands_still():
        before = cpu()
        time.sleep(1)
        return cpu() - before < 30  # hundredths of a second

    until(stands_still, 60)
    assert max(resident(pid) for pid in program.hosts.all()) < 300 * 2**20
    program.process.kill()
    until(lambda: not program.hosts.all())
    program.end()


def resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


def ticks(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    except OSError:
        return 0


CLOSED = """
import cloudpool as multiprocessing, os, sys

def work(queue):
    for n in range(10_000):
        print("line", n)
    queue.put("done")

if __name__ == "__main__":
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=work, args=(queue,))
    process.start()
    got = queue.get()
    process.join()
    print(got, process.exitcode, file=sys.stderr)
    os._exit(0)
"""


def test_stdout_whose_reader_has_gone(script):
    program = script(CLOSED)
    assert program.line() == "line 0"
    program.process.stdout.close()
    program.process.stdout = None
    assert program.process.stderr.read() == "done 0\n"
    program.end()


def test_stdout_that_is_closed(script):
    source = WATCHED.replace(
        'if __name__ == "__main__":', 'if __name__ == "__main__":\n    import os; os.close(1)'
    )
    code, said, complained = script(source.replace('print("first")', 'print("first", file=sys.stderr)')).end(
        "go\n"
    )
    assert (code, said, complained) == (0, "", "first\n")


KILLED = """
import cloudpool as multiprocessing, os, signal

def work():
    print("before")
    print("half a line", end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    process = multiprocessing.Process(target=work)
    process.start()
    process.join()
    print("|", process.exitcode)
"""


def test_what_was_printed_before_a_kill_is_seen(script):
    assert script(KILLED).end()[1] == f"before\nhalf a line| {-signal.SIGKILL}\n"


DAEMON_LEFT = """
import cloudpool as multiprocessing, subprocess, sys

def work():
    print("mine")
    other = subprocess.Popen(["sleep", "1000"])
    print(other.pid, file=sys.stderr)

if __name__ == "__main__":
    process = multiprocessing.Process(target=work)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_a_command_left_running_keeps_nobody_waiting(script):
    code, said, complained = script(DAEMON_LEFT).end()
    assert (code, said) == (0, "mine\n0\n")
    os.kill(int(complained), signal.SIGKILL)  # an engine ends it with its container


AT_EXIT = """
import atexit
import cloudpool as multiprocessing

def work():
    atexit.register(print, "an exit handler", flush=True)
    multiprocessing.util.Finalize(None, print, ("a finalizer",), {"flush": True}, exitpriority=10)

if __name__ == "__main__":
    process = multiprocessing.Process(target=work)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_what_exit_handlers_print_as_in_a_spawned_process(script):
    code, said, complained = script(AT_EXIT).end()
    assert (code, complained) == (0, "")
    assert sorted(said.splitlines()) == ["0", "a finalizer", "an exit handler"]
