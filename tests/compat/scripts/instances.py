"""Whose instances things are, by the classes that software asks isinstance with."""

# one host: prints the classes of its start method
import multiprocessing
from multiprocessing import (
    connection,
    context,
    managers,
    pool as pools,
    process,
    queues,
    shared_memory,
    sharedctypes,
    synchronize,
)


def say(name, thing, *classes):
    print(f"{name}:", *(f"{cls.__name__}={isinstance(thing, cls)}" for cls in classes))


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    mp = multiprocessing
    say("Queue", mp.Queue(), queues.Queue, queues.JoinableQueue, queues.SimpleQueue)
    say("JoinableQueue", mp.JoinableQueue(), queues.Queue, queues.JoinableQueue)
    say("SimpleQueue", mp.SimpleQueue(), queues.Queue, queues.SimpleQueue)
    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore"):
        kinds = (synchronize.Lock, synchronize.RLock, synchronize.Semaphore, synchronize.BoundedSemaphore)
        say(name, getattr(mp, name)(), *kinds, synchronize.SemLock)
    say("Condition", mp.Condition(), synchronize.Condition)
    say("Event", mp.Event(), synchronize.Event)
    say("Barrier", mp.Barrier(1), synchronize.Barrier)
    ours, theirs = mp.Pipe()
    say("Pipe", ours, connection.Connection, connection._ConnectionBase)
    with connection.Listener() as listener, connection.Client(listener.address) as client:
        say("Client", client, connection.Connection)

    with mp.Pool(1) as pool, pools.ThreadPool(1) as threads:
        say("Pool", pool, pools.Pool, pools.ThreadPool)
        say("ThreadPool", threads, pools.Pool, pools.ThreadPool)
        results = (pools.AsyncResult, pools.ApplyResult, pools.MapResult)
        say("apply_async", pool.apply_async(abs, (1,)), *results)
        say("map_async", pool.map_async(abs, [1]), *results)
        say("imap", pool.imap(abs, [1]), pools.IMapIterator, pools.IMapUnorderedIterator)
        say("imap_unordered", pool.imap_unordered(abs, [1]), pools.IMapUnorderedIterator)
        say("worker", pool._pool[0], context.ForkProcess, process.BaseProcess, mp.Process)

    kinds = (mp.Process, process.BaseProcess, context.Process, context.ForkProcess, context.SpawnProcess)
    say("Process", mp.Process(), *kinds)
    for method in mp.get_all_start_methods():
        one = mp.get_context(method)
        say(method, one.Process(), *kinds)
        contexts = (context.ForkContext, context.SpawnContext, context.ForkServerContext)
        say(method, one, context.BaseContext, *contexts)
    say("default", context._default_context, context.BaseContext, context.DefaultContext)
    say("current", mp.current_process(), process.BaseProcess, mp.Process)

    kinds = [sharedctypes.SynchronizedBase, sharedctypes.Synchronized, sharedctypes.SynchronizedArray,
             sharedctypes.SynchronizedString]
    say("Value", mp.Value("i", 1), *kinds)
    say("Array", mp.Array("d", 2), *kinds)
    say("Array of characters", mp.Array("c", 2), *kinds)

    with mp.Manager() as manager:
        say("Manager", manager, managers.SyncManager, managers.BaseManager)
        kinds = (managers.BaseProxy, managers.DictProxy, managers.ListProxy, managers.NamespaceProxy,
                 managers.ValueProxy, managers.ArrayProxy, managers.EventProxy, managers.AcquirerProxy,
                 managers.ConditionProxy, managers.BarrierProxy)
        for name, arguments in {
            "dict": (), "list": (), "Namespace": (), "Value": ("i", 1), "Array": ("i", [1]), "Event": (), "Lock": (),
            "RLock": (), "Semaphore": (), "Condition": (), "Barrier": (1,), "Queue": (),
        }.items():
            say(name, getattr(manager, name)(*arguments), *kinds)
    block = shared_memory.SharedMemory(create=True, size=1)
    say("SharedMemory", block, shared_memory.SharedMemory)
    block.close()
    block.unlink()
    for error in ("ProcessError", "TimeoutError", "AuthenticationError", "BufferTooShort"):
        print(error, getattr(mp, error) is getattr(mp.context, error))
