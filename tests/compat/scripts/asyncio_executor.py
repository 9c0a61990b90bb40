"""asyncio: loop.run_in_executor with a ProcessPoolExecutor as default and given, beside other tasks."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def put(queue, item):
    queue.put(item)


async def main():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        print(await asyncio.gather(*(loop.run_in_executor(executor, fib, n) for n in range(12))))
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=put, args=(queue, "from a process"))
    process.start()
    print(await asyncio.to_thread(queue.get))
    await asyncio.to_thread(process.join)
    # A pipe's end as a file descriptor that the loop watches
    here, there = multiprocessing.Pipe()
    ready = asyncio.Event()
    loop.add_reader(here.fileno(), ready.set)
    process = multiprocessing.Process(target=there.__class__.send, args=(there, [1, 2]))
    process.start()
    await asyncio.wait_for(ready.wait(), 60)
    loop.remove_reader(here.fileno())
    print(here.recv())
    process.join()
    ended = asyncio.Event()
    process = multiprocessing.Process(target=fib, args=(5,))
    process.start()
    loop.add_reader(process.sentinel, ended.set)
    await asyncio.wait_for(ended.wait(), 60)
    loop.remove_reader(process.sentinel)
    process.join()
    print(process.exitcode)


if __name__ == "__main__":
    asyncio.run(main())
