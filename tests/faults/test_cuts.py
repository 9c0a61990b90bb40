"""Connections are cut at random bytes of requests and replies, and nobody notices but by the clock.

Several processes work on one object through the proxy, their histories must be linearizable, and what has no history is
counted: nothing is lost, nothing comes twice, no exception, no word on stderr.
"""

import queue
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from linearizability import Recorder, check, event, fifo, history, key, lock, register, semaphore, stack

import cloudpool
from cloudpool.host import session as sessions

ctx = cloudpool.get_context("fork")
scale = 1.0


def some(n):
    """How many operations: fewer where most of them are cut."""
    return round(n * scale)


@pytest.fixture(autouse=True)
def session(cuts, rate, monkeypatch):
    """The session begins under cuts, too."""
    monkeypatch.setattr(sys.modules[__name__], "scale", 0.1 if rate > 0.1 else 1.0)
    return sessions.current()


@pytest.fixture
def checked(tmp_path, count):
    """checked(models): all that was recorded is linearizable."""

    def checked(models, **options):
        count(operations=check(history(tmp_path), models, **options))

    return checked


def value_or(word, exception, call, *args):
    """What the call returns, or a word instead of the exception."""
    try:
        return call(*args)
    except exception:
        return word


# -- histories ----------------------------------------------------------------------------------------------------------


def use_queue(random, folder, q):
    recorder = Recorder(folder)
    for n in range(some(150)):
        timeout = random.choice((0, 0.01))
        if random.random() < 0.45:
            item = f"{recorder.name} {n}"
            recorder("q", "put", item, value_or, "full", queue.Full, q.put, item, True, timeout)
        else:
            recorder("q", "get", None, value_or, "empty", queue.Empty, q.get, True, timeout)


@pytest.mark.parametrize("maxsize", [0, 3])
def test_queue(maxsize, run, checked):
    q = ctx.Queue(maxsize)
    run(use_queue, q)
    # A bounded put waits for its reply: it has taken effect when it returns.
    checked({"q": fifo(maxsize)}, posted=() if maxsize else ("put",))


def use_lock(random, folder, it, depth):
    recorder = Recorder(folder)
    for _ in range(some(75)):
        held = 0
        for _ in range(random.randint(1, depth)):
            timeout = random.choice((0, 0.01, None))
            held += recorder("it", "acquire", None, it.acquire, True, timeout)
        for _ in range(held):
            recorder("it", "release", None, it.release)


@pytest.mark.parametrize(
    ("make", "model", "depth"),
    [
        (ctx.Lock, lock(), 1),
        (ctx.RLock, lock(is_recursive=True), 3),
        (lambda: ctx.Semaphore(2), semaphore(2), 1),
        (lambda: ctx.BoundedSemaphore(2), semaphore(2), 1),
    ],
    ids=["Lock", "RLock", "Semaphore", "BoundedSemaphore"],
)
def test_lock(make, model, depth, run, checked):
    run(use_lock, make(), depth)
    checked({"it": model})


def take_turns(random, folder, turns, mine):
    recorder = Recorder(folder)
    me = mine.get()
    for _ in range(some(75)):
        recorder(f"turn{me}", "acquire", None, turns[me].acquire)
        after = (me + 1) % len(turns)
        recorder(f"turn{after}", "release", None, turns[after].release)


@pytest.mark.parametrize("make", [ctx.Lock, ctx.Semaphore], ids=["Lock", "Semaphore"])
def test_lock_that_another_process_releases(make, run, checked):
    turns, mine = [make() for _ in range(3)], ctx.Queue()
    for n, turn in enumerate(turns):
        mine.put(n)
        turn.acquire()
    turns[0].release()
    run(take_turns, turns, mine, workers=3)
    assert [turn.acquire(block=False) for turn in turns] == [True, False, False]
    checked({f"turn{n}": semaphore(int(n == 0)) for n in range(3)})


def use_value(random, folder, value):
    recorder = Recorder(folder)

    def add(n):
        with value.get_lock():
            value.value += n
            return value.value

    for _ in range(some(75)):
        n = random.randint(1, 9)
        recorder("value", "add", n, add, n)
        recorder("value", "get", None, getattr, value, "value")


def test_value(run, checked):
    value = ctx.Value("q", 0)
    run(use_value, value)
    checked({"value": register(0)})


def use_dict(random, folder, d):
    recorder = Recorder(folder)
    for n in range(some(150)):
        k, new = random.choice("abc"), f"{recorder.name} {n}"
        name = random.choice(("get", "set", "pop", "setdefault", "update"))
        if name == "get":
            recorder(f"d/{k}", "get", None, d.get, k)
        elif name == "pop":
            recorder(f"d/{k}", "pop", None, d.pop, k, None)
        elif name == "setdefault":
            recorder(f"d/{k}", "setdefault", new, d.setdefault, k, new)
        elif name == "set":
            recorder(f"d/{k}", "set", new, d.__setitem__, k, new)
        else:
            recorder(f"d/{k}", "set", new, d.update, {k: new})


def test_dict(run, checked):
    with ctx.Manager() as manager:
        run(use_dict, manager.dict())
    checked({"d": key()})


def use_list(random, folder, li):
    recorder = Recorder(folder)
    for n in range(some(150)):
        if random.random() < 0.35:  # a list that is seldom empty leaves more orders than can be tried
            item = f"{recorder.name} {n}"
            recorder("li", "append", item, li.append, item)
        elif random.random() < 0.5:
            recorder("li", "pop", None, value_or, "empty", IndexError, li.pop)
        else:
            recorder("li", "pop_first", None, value_or, "empty", IndexError, li.pop, 0)


def test_list(run, checked):
    with ctx.Manager() as manager:
        run(use_list, manager.list())
    checked({"li": stack()})


def use_event(random, folder, e):
    recorder = Recorder(folder)
    for _ in range(some(150)):
        name = random.choice(("set", "clear", "is_set", "is_set", "wait"))
        recorder("e", name, None, getattr(e, name), *([0.01] if name == "wait" else []))


def test_event(run, checked):
    run(use_event, ctx.Event())
    checked({"e": event()})


def use_namespace(random, folder, namespace):
    recorder = Recorder(folder)
    for n in range(some(150)):
        if random.random() < 0.5:
            new = f"{recorder.name} {n}"
            recorder("x", "set", new, setattr, namespace, "x", new)
        else:
            recorder("x", "get", None, getattr, namespace, "x")


def test_namespace(run, checked):
    with ctx.Manager() as manager:
        run(use_namespace, manager.Namespace(x=None))
    checked({"x": register(None)})


# -- counts -------------------------------------------------------------------------------------------------------------


def square(x):
    return x * x


def test_map_of_20000(count):
    with ctx.Pool(3) as pool:
        assert pool.map(square, range(20_000)) == [x * x for x in range(20_000)]
        assert pool.map(square, range(some(1000)), chunksize=1) == [x * x for x in range(some(1000))]
        pool.close()
        pool.join()
    count(items=20_000 + some(1000))


def test_pool_calls_of_every_kind(count):
    with ctx.Pool(2, maxtasksperchild=20) as pool:
        assert list(pool.imap(square, range(some(200)))) == [x * x for x in range(some(200))]
        assert sorted(pool.imap_unordered(square, range(some(200)), 7)) == [x * x for x in range(some(200))]
        assert [pool.apply(square, (x,)) for x in range(some(50))] == [x * x for x in range(some(50))]
        results = [pool.apply_async(square, (x,)) for x in range(some(50))]
        assert [result.get() for result in results] == [x * x for x in range(some(50))]
    count(items=some(500))


def test_short_maps(count):
    """Their callers wait for them, and the results for each other: in a thread, where no signal's handler comes."""
    with ctx.Pool(2) as pool, ThreadPoolExecutor(1) as caller:
        for _ in range(some(300)):
            assert caller.submit(pool.map, square, range(100)).result() == [x * x for x in range(100)]
    count(items=100 * some(300))


def send_numbers(random, folder, end, n):
    for i in range(n):
        end.send(i)
    end.close()


def test_pipe_keeps_its_order_and_ends(run, count):
    receiving, sending = ctx.Pipe(duplex=False)
    process = ctx.Process(target=send_numbers, args=(None, None, sending, some(400)))
    process.start()
    sending.close()
    assert [receiving.recv() for _ in range(some(400))] == list(range(some(400)))
    with pytest.raises(EOFError):
        receiving.recv()
    process.join()
    assert process.exitcode == 0
    count(items=some(400))


def echo(random, folder, end):
    while (item := end.recv()) is not None:
        end.send(item)


def test_pipe_echoes(count):
    here, there = ctx.Pipe()
    process = ctx.Process(target=echo, args=(None, None, there))
    process.start()
    for n in range(some(200)):
        here.send(n)
        assert here.recv() == n
    here.send(None)
    process.join()
    assert process.exitcode == 0
    count(items=some(200))


def work_off(random, folder, q, results):
    while (item := q.get()) is not None:
        results.put(item)
        q.task_done()
    q.task_done()


def test_joinable_queue_is_joined_when_all_is_done(run, count):
    q, results = ctx.JoinableQueue(), ctx.Queue()
    workers = [ctx.Process(target=work_off, args=(None, None, q, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for n in range(some(300)):
        q.put(n)
    q.join()
    assert results.qsize() == some(300)
    for _ in workers:
        q.put(None)
    q.join()
    for worker in workers:
        worker.join()
    assert sorted(results.get() for _ in range(some(300))) == list(range(some(300)))
    count(items=some(300))


def meet(random, folder, barrier, met, rounds):
    indices = []
    for n in range(rounds):
        indices.append(barrier.wait())
        met.put((n, indices[-1]))
        assert barrier.wait() in range(barrier.parties)


def test_barrier_lets_all_pass_each_time(run, count):
    barrier, met = ctx.Barrier(3), ctx.Queue()
    run(meet, barrier, met, some(30), workers=3)
    arrivals = Counter(met.get() for _ in range(3 * some(30)))
    assert arrivals == {(n, index): 1 for n in range(some(30)) for index in range(3)}
    assert not barrier.broken
    count(operations=6 * some(30))


def play(random, folder, condition, ball, rounds):
    """Two players: each waits for its turn, plays, notifies the other."""
    with condition:
        me = ball[1]
        ball[1] += 1
    for _ in range(rounds):
        with condition:
            while ball[0] % 2 != me:
                assert condition.wait()
            ball[0] += 1
            condition.notify()


def test_condition_hands_over(run, count):
    condition, ball = ctx.Condition(), ctx.RawArray("q", 2)
    run(play, condition, ball, some(60), workers=2)
    assert ball[0] == 2 * some(60)
    count(operations=2 * some(60))


def use_containers(random, folder, d, li, namespace, array, lock, n):
    for i in range(n):
        with lock:
            d["sum"] = d.get("sum", 0) + 1
            namespace.sum += 1
            array[0] += 1
        li.append(i)
        d[f"{random.random()}"] = i


def test_containers_count(run, count):
    with ctx.Manager() as manager:
        d, li, namespace, array = (
            manager.dict(),
            manager.list(),
            manager.Namespace(sum=0),
            manager.Array("q", [0]),
        )
        run(use_containers, d, li, namespace, array, manager.Lock(), some(40), workers=3)
        assert (d["sum"], namespace.sum, array[0]) == (3 * some(40),) * 3
        assert len(d) == 3 * some(40) + 1
        assert Counter(li) == dict.fromkeys(range(some(40)), 3)
    count(operations=some(40) * 3 * 8)


def put_large(random, folder, q):
    for n in range(3):
        q.put(bytes([n]) * 50_000_000)


def test_large_items_arrive_whole(run, count):
    q = ctx.Queue(1)
    process = ctx.Process(target=put_large, args=(None, None, q))
    process.start()
    for n in range(3):
        item = q.get()
        assert len(item) == 50_000_000
        assert item.count(n) == 50_000_000
    process.join()
    count(items=3)


def put_all(random, folder, q, n):
    for i in range(n):
        q.put((random.random(), i))


def test_many_producers_of_a_queue(run, count):
    q = ctx.Queue()
    run(put_all, q, some(150), workers=4)
    got = [q.get()[1] for _ in range(4 * some(150))]
    assert Counter(got) == dict.fromkeys(range(some(150)), 4)
    assert q.empty()
    count(items=4 * some(150))
