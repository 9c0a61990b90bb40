"""The tools themselves: a checker that never objects, or a proxy that never cuts, would show nothing."""

import math
import random
import socket
import time
from collections import Counter
from contextlib import closing, suppress

import pytest
from linearizability import (
    Model,
    NotLinearizable,
    Operation,
    Recorder,
    check,
    event,
    fifo,
    history,
    key,
    lock,
    register,
    semaphore,
    stack,
)

from cloudpool.errors import ServerError
from cloudpool.store.wire import open_url


def operations(*lines):
    """thread name(argument) = result at began..ended, as tuples; None as an end: it never returned."""
    return [
        Operation(thread, "x", name, argument, began, *(() if ended is None else (ended, result)))
        for thread, name, argument, result, began, ended in lines
    ]


LINEARIZABLE = {
    "overlapping puts in any order": (fifo(), [
        ("a", "put", 1, None, 0, 5), ("b", "put", 2, None, 0, 5), ("c", "get", None, 2, 6, 7), ("c", "get", None, 1, 8, 9)]),
    "posted put arrives with its thread's next operation": (fifo(), [
        ("a", "put", 1, None, 0, 1), ("b", "get", None, "empty", 2, 3), ("a", "get", None, 1, 4, 5)]),
    "empty before the put": (fifo(), [("a", "put", 1, None, 0, 9), ("b", "get", None, "empty", 1, 2), ("b", "get", None, 1, 3, 4)]),
    "full": (fifo(1), [("a", "put", 1, None, 0, 1), ("a", "put", 2, "full", 2, 3), ("b", "get", None, 1, 4, 5)]),
    "pending get took it": (fifo(), [
        ("a", "put", 1, None, 0, 1), ("a", "put", 2, None, 2, 3), ("b", "get", None, None, 4, None), ("c", "get", None, 2, 5, 6)]),
    "pending get took nothing": (fifo(), [
        ("a", "put", 1, None, 0, 1), ("b", "get", None, None, 4, None), ("c", "get", None, 1, 5, 6)]),
    "lock handed over": (lock(), [
        ("a", "acquire", None, True, 0, 1), ("b", "acquire", None, False, 0, 9), ("b", "acquire", None, True, 10, 14),
        ("a", "release", None, None, 11, 12)]),
    "recursive": (lock(is_recursive=True), [
        ("a", "acquire", None, True, 0, 1), ("a", "acquire", None, True, 2, 3), ("a", "release", None, None, 4, 5),
        ("b", "acquire", None, False, 6, 7)]),
    "released by another": (semaphore(1), [
        ("a", "acquire", None, True, 0, 1), ("b", "release", None, None, 2, 3), ("c", "acquire", None, True, 4, 5)]),
    "sums": (register(0), [("a", "add", 1, 2, 0, 5), ("b", "add", 1, 1, 0, 5), ("b", "get", None, 2, 6, 7)]),
    "dict": (key(), [
        ("a", "set", 1, None, 0, 1), ("b", "setdefault", 2, 1, 2, 3), ("b", "pop", None, 1, 4, 5), ("a", "get", None, None, 6, 7)]),
    "event": (event(), [("a", "set", None, None, 0, 9), ("b", "wait", None, True, 1, 2), ("c", "is_set", None, False, 0, 3)]),
    "list": (stack(), [
        ("a", "append", 1, None, 0, 1), ("a", "append", 2, None, 2, 3), ("b", "pop_first", None, 1, 4, 5),
        ("b", "pop", None, 2, 6, 7), ("b", "pop", None, "empty", 8, 9)]),
}  # fmt: skip
NOT = {
    "item lost": (fifo(), [("a", "put", 1, None, 0, 1), ("a", "get", None, "empty", 2, 3)]),
    "item doubled": (fifo(), [
        ("a", "put", 1, None, 0, 1), ("b", "get", None, 1, 2, 3), ("c", "get", None, 1, 2, 3)]),
    "two of one thread swapped": (fifo(), [
        ("a", "put", 1, None, 0, 5), ("a", "put", 2, None, 6, 7), ("b", "get", None, 2, 0, 9), ("b", "get", None, 1, 10, 11)]),
    "got before it was put": (fifo(), [("a", "get", None, 1, 0, 1), ("b", "put", 1, None, 2, 3)]),
    "above the bound": (fifo(1), [("a", "put", 1, None, 0, 1), ("a", "put", 2, None, 2, 3), ("a", "put", 3, "full", 4, 5)]),
    "two have the lock": (lock(), [("a", "acquire", None, True, 0, 1), ("b", "acquire", None, True, 2, 3)]),
    "token lost": (semaphore(1), [
        ("a", "acquire", None, True, 0, 1), ("a", "release", None, None, 2, 3), ("b", "acquire", None, False, 4, 5)]),
    "increment lost": (register(0), [("a", "add", 1, 1, 0, 5), ("b", "add", 1, 1, 0, 5)]),
    "stale read": (register(0), [("a", "set", 1, None, 0, 1), ("b", "get", None, 0, 2, 3)]),
    "popped twice": (key(), [
        ("a", "set", 1, None, 0, 1), ("a", "pop", None, 1, 2, 9), ("b", "pop", None, 1, 2, 9)]),
    "set twice by one call": (event(), [
        ("a", "set", None, None, 0, 9), ("b", "is_set", None, True, 1, 2), ("b", "clear", None, None, 3, 4),
        ("b", "is_set", None, False, 5, 6), ("b", "is_set", None, True, 7, 8)]),
    "appended twice": (stack(), [
        ("a", "append", 1, None, 0, 1), ("a", "pop", None, 1, 2, 3), ("a", "pop", None, 1, 4, 5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_history_with_an_order_is_accepted(name):
    model, lines = LINEARIZABLE[name]
    assert check(operations(*lines), {"x": model}) == len(lines)


@pytest.mark.parametrize("name", NOT)
def test_history_without_an_order_is_not(name):
    model, lines = NOT[name]
    with pytest.raises(NotLinearizable, match="x: after"):
        check(operations(*lines), {"x": model})


def test_keys_are_objects_of_their_own():
    ops = [*operations(("a", "set", 1, None, 0, 1)), *operations(("a", "get", None, None, 2, 3))]
    for name, operation in zip(("x/1", "x/2"), ops, strict=True):
        operation.object = name
    check(ops, {"x": key()})


def test_long_history_is_checked_fast():
    lines = []
    for n in range(5000):
        lines += [("a", "put", n, None, 10 * n, 10 * n + 12), ("b", "get", None, n, 10 * n, 10 * n + 15)]
    began = time.process_time()
    check(operations(*lines), {"x": fifo()})
    assert time.process_time() - began < 10


def drawn(own, threads, each, slow):
    """A queue's history as it may be: each operation takes effect at a time of its own, a put by its thread's next get."""
    effects = []
    for thread in "abcd"[:threads]:
        now, posted = own.random(), []
        for n in range(each):
            began = now
            if own.random() < 0.45:
                posted.append(Operation(thread, "x", "put", f"{thread} {n}", began, began + 0.05))
            else:
                lasts = own.expovariate(1) * (slow if own.random() < 0.05 else 1)
                times = sorted(own.uniform(began, began + lasts) for _ in range(len(posted) + 1))
                get = Operation(thread, "x", "get", None, began, began + lasts)
                effects += zip(times, [*posted, get], strict=True)
                posted = []
            now = (get.ended if not posted else began + 0.05) + own.uniform(0, 0.2)
        effects += [(now, put) for put in posted]
    operations, items = [operation for _, operation in sorted(effects, key=lambda effect: effect[0])], []
    for operation in operations:
        if operation.name == "put":
            items.append(operation.argument)
        else:
            operation.result = items.pop(0) if items else "empty"
    return operations


def test_histories_with_slow_operations_are_decided(seed):
    own = random.Random(seed)
    for _ in range(20):
        check(drawn(own, 4, 150, own.choice([5, 20, 50])), {"x": fifo()})


def is_linearizable(ops, model):
    try:
        return bool(check(ops, {"x": model}))
    except NotLinearizable:
        return False


def test_what_results_tell_of_the_order_changes_no_verdict(seed):
    own, verdicts = random.Random(seed), Counter()
    for _ in range(500):
        ops = drawn(own, own.randint(2, 3), own.randint(1, 4), 5)
        gets = [o for o in ops if o.name == "get"]
        for one in gets[:1]:  # wrong, more often than not
            other = own.choice(gets)
            one.result, other.result = other.result, own.choice([one.result, "empty"])
        last = max(ops, key=lambda o: o.began)
        if own.random() < 0.3:
            last.ended, last.result = math.inf, None
        verdicts[is_linearizable(ops, fifo())] += 1
        assert is_linearizable(ops, fifo()) == is_linearizable(ops, Model(*fifo()[:2])), ops
    assert min(verdicts.values()) > 50


def test_operation_that_raised_is_pending(tmp_path):
    recorder = Recorder(tmp_path)
    recorder("x", "put", 1, [].append, 1)
    with pytest.raises(ValueError, match="invalid"):
        recorder("x", "get", None, int, "x")
    recorder.close()
    put, get = sorted(history(tmp_path), key=lambda operation: operation.began)
    assert (put.name, put.argument, put.is_pending, get.is_pending) == ("put", 1, False, True)
    check([put, get], {"x": fifo()})


def port_of(connection):
    return connection._sock.getsockname()[1]


def test_proxy_passes_on_what_is_sent(proxy):
    connection = open_url(proxy.url)
    assert connection.call("ECHO", b"x" * 500_000) == b"x" * 500_000
    connection.close()


@pytest.mark.parametrize("byte", [0, 1, 5])
def test_reply_is_cut_where_it_was_said(proxy, byte):
    connection = open_url(proxy.url)
    proxy.arm("reply", byte, port_of(connection))
    connection.send("PING")
    received = b""
    try:
        while data := connection._sock.recv(100):
            received += data
    except ConnectionResetError:
        pass
    assert received == b"+PONG\r\n"[:byte]
    connection.close()


def test_request_that_is_cut_has_not_been_executed(proxy, tcp_server):
    connection, other = open_url(proxy.url), tcp_server.connect()
    proxy.arm("request", 10, port_of(connection))
    with pytest.raises(OSError):
        connection.call("SET", "cut", "x" * 100)
    assert proxy.counts()["armed"] == 0
    assert other.call("EXISTS", "cut") == 0
    connection.close()
    other.close()


def test_next_connection_is_cut_when_none_is_named(proxy):
    before = open_url(proxy.url)
    proxy.arm("request", 0)
    assert before.call("PING") == b"PONG"
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock, pytest.raises(OSError):
        sock.sendall(b"PING\r\n")
        assert not sock.recv(1)
        raise ConnectionResetError
    before.close()


def test_random_cuts_come_at_the_rate_that_was_set(proxy):
    proxy.set(rate=0.2)
    calls = 0
    while proxy.counts()["cuts"] < 20:
        with suppress(OSError, ServerError), closing(open_url(proxy.url)) as connection:
            for _ in range(10):
                connection.call("PING")
                calls += 1
    assert calls < 20 * 200


def test_frozen_proxy_answers_once_it_is_thawed(proxy):
    connection = open_url(proxy.url)
    proxy.freeze()
    connection.send("PING")
    connection._sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.receive()
    proxy.thaw()
    connection._sock.settimeout(10)
    assert connection.receive() == b"PONG"
    connection.close()


def test_refusing_proxy_cuts_all_and_lets_nobody_in(proxy):
    connection = open_url(proxy.url)
    proxy.refuse()
    with pytest.raises(OSError):
        connection.call("PING")
    connection.close()
    with pytest.raises(ServerError, match="cannot reach"):
        open_url(proxy.url)
    proxy.accept()
    connection = open_url(proxy.url)
    assert connection.call("PING") == b"PONG"
    connection.close()
