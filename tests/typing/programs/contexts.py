"""Contexts as parameters, as libraries write them, and the parts that frameworks build on."""

import multiprocessing as mp
import multiprocessing.context
import multiprocessing.dummy as threads
import multiprocessing.process
import multiprocessing.queues
import multiprocessing.synchronize
from collections.abc import Callable
from multiprocessing import get_context, process, reduction, resource_tracker, spawn, util
from multiprocessing.context import (
    BaseContext,
    DefaultContext,
    ForkContext,
    ForkProcess,
    ForkServerContext,
    SpawnContext,
    SpawnProcess,
)
from multiprocessing.dummy.connection import Pipe as thread_pipe
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from multiprocessing.reduction import ForkingPickler
from multiprocessing.synchronize import Barrier, Condition, Event, Lock, Semaphore
from multiprocessing.util import Finalize, register_after_fork


class Service:
    """Made of parts of one context, whichever it is."""

    def __init__(self, context: BaseContext | None = None, method: str = "spawn") -> None:
        self.context: multiprocessing.context.BaseContext = context or mp.get_context(method)
        self.jobs: Queue[str] = self.context.Queue(10)
        self.results: multiprocessing.queues.Queue[int] = self.context.Queue()
        self.done: SimpleQueue[None] = self.context.SimpleQueue()
        self.tasks: JoinableQueue[int] = self.context.JoinableQueue()
        self.lock: multiprocessing.synchronize.Lock = self.context.Lock()
        self.event: Event = self.context.Event()
        self.condition: Condition = self.context.Condition()
        self.slots: Semaphore = self.context.Semaphore(2)
        self.barrier: Barrier = self.context.Barrier(2)
        self.pool: Pool = self.context.Pool(2)
        self.finalizer: Finalize[None] = Finalize(self, self.stop, exitpriority=10)

    def stop(self) -> None:
        self.pool.terminate()


class Worker(SpawnProcess):
    def run(self) -> None:
        print(self.name)


def start(context: SpawnContext | ForkContext | ForkServerContext, work: Callable[[], object]) -> BaseProcess:
    child = context.Process(target=work)
    child.start()
    return child


def by_name() -> None:
    spawning: SpawnContext = get_context("spawn")
    forking: ForkContext = mp.get_context("fork")
    serving: ForkServerContext = get_context("forkserver")
    default: DefaultContext = get_context()
    children: list[multiprocessing.process.BaseProcess] = [
        start(context, print) for context in (spawning, forking, serving)
    ]
    child: ForkProcess = forking.Process(target=print, args=(1,))
    child.start()
    print(default.get_start_method(), default.get_all_start_methods(), children, spawning.cpu_count())
    pool: Pool = spawning.Pool(1)
    lengths: list[int] = pool.map(len, ["a"])
    print(lengths)


def inside(lock: Lock) -> None:
    register_after_fork(lock, lambda taken: None)
    util.sub_debug("said")
    print(util.get_temp_dir(), util.is_exiting(), util.SUBDEBUG)
    data = spawn.get_preparation_data("name")
    print(data["name"], spawn.get_command_line(pipe_handle=3), spawn.get_executable())
    print(process.current_process().name, process.active_children(), multiprocessing.process.parent_process())
    view: memoryview = ForkingPickler.dumps([1, 2])
    print(view, reduction.ForkingPickler, callable(resource_tracker.ensure_running))


def by_threads() -> None:
    worker = threads.Process(target=print)
    worker.start()
    jobs: threads.Queue[int] = threads.Queue()
    jobs.put(1)
    here, there = thread_pipe()
    here.send(1)
    print(there.recv(), threads.Lock().acquire())
