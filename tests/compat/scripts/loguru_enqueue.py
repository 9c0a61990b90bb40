"""loguru: enqueue=True, where workers' records pass through a queue to the one sink of the parent."""

# requires: loguru
import multiprocessing

from loguru import logger


def worker(logger_, n):
    logger_.info("worker {} at work", n)
    logger_.bind(n=n).warning("second")
    logger_.complete()


def pooled(n):
    logger.info("pooled {}", n)
    return n


def main():
    for method in ("fork", "spawn"):
        lines = []
        context = multiprocessing.get_context(method)
        logger.remove()
        logger.add(lines.append, enqueue=True, format="{level} {process.name} {message}", context=context)
        processes = [context.Process(target=worker, args=(logger, n), name="writer-%d" % n) for n in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if method == "fork":
            with context.Pool(2) as pool:
                pool.map(pooled, range(3))
                pool.close()
                pool.join()
        logger.complete()
        for line in sorted(lines):
            print(
                line.replace("ForkPoolWorker-", "ForkPoolWorker").split("ForkPoolWorker")[0].strip(),
                end=" | ",
            )
        print(len(lines), [process.exitcode for process in processes])
    logger.remove()


if __name__ == "__main__":
    main()
