"""The logging cookbook: workers log to a queue, one listener writes. fork spawn"""

import logging
import logging.handlers
import multiprocessing
import sys


class Sorted(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


def configure(queue):
    root = logging.getLogger()
    root.handlers[:] = [logging.handlers.QueueHandler(queue)]
    root.setLevel(logging.DEBUG)


def worker(queue, number):
    configure(queue)
    log = logging.getLogger("worker.%d" % number)
    for i in range(3):
        log.log([logging.DEBUG, logging.INFO, logging.ERROR][i], "message %d of %d", i, number)
    try:
        1 // 0
    except ZeroDivisionError:
        log.exception("failed")


def listener_process(queue, out):
    lines = []
    while True:
        record = queue.get()
        if record is None:
            break
        lines.append("%s %s %s" % (record.name, record.levelname, record.getMessage().splitlines()[0]))
    out.send(sorted(lines))


def main():
    queue = multiprocessing.Queue(-1)
    handler = Sorted()
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(processName)s %(message)s"))
    listener = logging.handlers.QueueListener(queue, handler)
    listener.start()
    workers = [
        multiprocessing.Process(target=worker, args=(queue, n), name="worker-process-%d" % n)
        for n in range(3)
    ]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    listener.stop()
    for line in sorted(handler.lines):
        print(line.splitlines()[0])
    print(len(handler.lines), sum("ZeroDivisionError" in line for line in handler.lines))

    here, there = multiprocessing.Pipe()
    writer = multiprocessing.Process(target=listener_process, args=(queue, there))
    writer.start()
    pool = multiprocessing.Pool(2, configure, (queue,))
    pool.map(talk, range(4))
    pool.close()
    pool.join()  # their records are in the queue now
    queue.put_nowait(None)
    print(here.recv())
    writer.join()


def talk(n):
    logging.getLogger("pool").warning("task %d", n)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
