"""structlog: its stdlib loggers over a QueueHandler to a QueueListener; the process's name added to each event."""

# requires: structlog
import logging
import logging.handlers
import multiprocessing

import structlog


def configure(queue):
    logging.basicConfig(level=logging.INFO, handlers=[logging.handlers.QueueHandler(queue)], force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.CallsiteParameterAdder(
                {structlog.processors.CallsiteParameter.PROCESS_NAME}
            ),
            structlog.processors.KeyValueRenderer(sort_keys=True),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def worker(queue, n):
    configure(queue)
    structlog.get_logger("w").bind(n=n).info("working", square=n * n)


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


if __name__ == "__main__":
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        queue, lines = context.Queue(), Lines()
        listener = logging.handlers.QueueListener(queue, lines)
        listener.start()
        processes = [context.Process(target=worker, args=(queue, n), name="p%d" % n) for n in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        listener.stop()
        print("\n".join(sorted(lines.lines)))
