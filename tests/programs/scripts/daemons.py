# A daemon that would run for ever, a worker that fails, one that exits with a status, one that is killed. fork spawn
import multiprocessing
import os
import signal
import sys


def heartbeat(conn, stop):
    p = multiprocessing.current_process()
    conn.send((p.name, p.daemon))
    stop.wait()  # never set: the parent's end ends it


def leave(code):
    sys.exit(code)


def fail():
    sys.stderr = open(os.devnull, "w")
    raise ValueError("bad worker")


def children_of_daemons():
    try:
        multiprocessing.Process(target=leave, args=(0,)).start()
    except AssertionError as error:
        sys.exit(str(error) == "daemonic processes are not allowed to have children" and 17)


def hang(ready):
    ready.set()
    signal.pause()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    stop = multiprocessing.Event()
    mine, theirs = multiprocessing.Pipe()
    d = multiprocessing.Process(name="daemon", target=heartbeat, args=(theirs, stop))
    d.daemon = True
    d.start()
    print(mine.recv(), d.daemon, d.is_alive())

    for code in (0, 1, 3, None):
        p = multiprocessing.Process(target=leave, args=(code,))
        p.start()
        p.join()
        print("sys.exit(%r) gives %r" % (code, p.exitcode))
    p = multiprocessing.Process(target=fail)
    p.start()
    p.join()
    print("an exception gives", p.exitcode)
    p = multiprocessing.Process(target=children_of_daemons, daemon=True)
    p.start()
    p.join()
    print("a daemon's child", p.exitcode)
    ready = multiprocessing.Event()
    for end in ("terminate", "kill"):
        ready.clear()
        p = multiprocessing.Process(target=hang, args=(ready,))
        p.start()
        ready.wait()
        getattr(p, end)()
        p.join()
        print(end, p.exitcode)
    print([c.name for c in multiprocessing.active_children()])
    sys.exit(5)  # with the daemon still there
