"""What a type checker finds wrong, a line each that ends in `# wrong`: nothing may be Any that is known to be something."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import multiprocessing.pool
import multiprocessing.shared_memory
import multiprocessing.synchronize
from multiprocessing.context import BaseContext
from multiprocessing.nowhere import Nothing  # wrong
from multiprocessing.pool import AsyncResult, Pol  # wrong

jobs: "multiprocessing.Queue[int]" = multiprocessing.Queue()
jobs.put("one")  # wrong
text: str = jobs.get()  # wrong
jobs.putt(1)  # wrong
multiprocessing.Lokc()  # wrong
multiprocessing.Pool(processes="two")  # wrong
multiprocessing.Process(target=3)  # wrong
multiprocessing.Process(targett=print)  # wrong
multiprocessing.set_start_method(5)  # wrong
multiprocessing.Lock().locked = 3  # wrong
multiprocessing.cpu_count() + "1"  # wrong
multiprocessing.current_process().nme  # wrong
multiprocessing.parent_process().pid  # wrong
multiprocessing.Event().wait("1")  # wrong
multiprocessing.Barrier("2")  # wrong
multiprocessing.Semaphore("1")  # wrong

with multiprocessing.Pool() as pool:
    lengths: list[str] = pool.map(len, ["a"])  # wrong
    pool.map(len, [1, 2])  # wrong
    pool.map(len, 3)  # wrong
    pool.mapp(len, ["a"])  # wrong
    later: AsyncResult[str] = pool.apply_async(len, ("a",))  # wrong
    pool.imap(len, ["a"]).next() + "1"  # wrong
    pool.starmap(divmod, [1])  # wrong
    pool.starmap_async(divmod, [(1, 2)]).gett()  # wrong

here, there = multiprocessing.Pipe()
here.sned(1)  # wrong
here.send_bytes("text")  # wrong
multiprocessing.connection.Client(5)  # wrong
multiprocessing.shared_memory.SharedMemory(size="1")  # wrong
multiprocessing.managers.BaseManager.register(3)  # wrong

with multiprocessing.Manager() as manager:
    manager.Lokc()  # wrong
    manager.list([1]).append("1")  # wrong


def make(context: BaseContext) -> multiprocessing.synchronize.Lock:
    context.Pool().map(len, [3])  # wrong
    context.Queue("1")  # wrong
    spawning = multiprocessing.get_context("spawn")
    spawning.Pool().map(len, [3])  # wrong
    spawning.Processs(target=make)  # wrong
    return context.Event()  # wrong


class Worker(multiprocessing.Process):
    def run(self, extra: int) -> None:  # wrong
        self.nmae  # wrong
