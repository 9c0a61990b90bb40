"""Managers of one's own and remote ones, connections over sockets, and waiting on many things."""

import multiprocessing.connection
import socket
from multiprocessing import AuthenticationError, Process, Queue, connection
from multiprocessing.connection import Client, Connection, Listener, wait
from multiprocessing.managers import (
    BaseManager,
    BaseProxy,
    DictProxy,
    ListProxy,
    Namespace,
    RemoteError,
    SharedMemoryManager,
    SyncManager,
    Token,
    ValueProxy,
)
from typing import Any


class Account:
    def __init__(self, balance: int = 0) -> None:
        self.balance = balance

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance


class AccountProxy(BaseProxy):
    _exposed_ = ("deposit",)

    def deposit(self, amount: int) -> None:
        self._callmethod("deposit", (amount,))


class Bank(BaseManager):
    pass


class Shop(SyncManager):
    pass


Bank.register("Account", Account, AccountProxy, exposed=["deposit"])
Bank.register("jobs", callable=lambda: Queue())
Shop.register("Account", Account)


def serve(address: tuple[str, int], key: bytes) -> None:
    bank = Bank(address=address, authkey=key)
    server = bank.get_server()
    server.serve_forever()


def share() -> None:
    with SyncManager() as manager:
        counts: DictProxy[str, int] = manager.dict()
        counts["a"] = counts.get("a", 0) + 1
        names: ListProxy[str] = manager.list(["x"])
        names.append("y")
        flag: ValueProxy[bool] = manager.Value("b", False)
        flag.value = not flag.value
        space: Namespace = manager.Namespace()
        space.anything = 3
        jobs = manager.Queue(10)
        jobs.put("job")
        lock, event = manager.Lock(), manager.Event()
        with lock:
            event.set()
        manager.Barrier(2).abort()
        manager.Condition().acquire()
        manager.Semaphore(2).release()
        print(dict(counts), list(names), sorted(counts.items()), manager.address)
    shop = Shop(("127.0.0.1", 0), b"secret")
    shop.start(print, ("started",))
    shop.shutdown()
    with SharedMemoryManager() as memory:
        block = memory.SharedMemory(size=10)
        items = memory.ShareableList([1, 2])
        print(block.name, items[0])


def answer(conn: Connection) -> None:
    with conn:
        conn.send_bytes(b"hello", 0, 5)
        data: bytes = conn.recv_bytes(maxlength=100)
        buffer = bytearray(10)
        count: int = conn.recv_bytes_into(buffer)
        print(data, count, conn.fileno(), conn.closed, conn.readable, conn.writable)


def listen(path: str) -> None:
    with Listener(path, family="AF_UNIX", backlog=5, authkey=b"secret") as listener:
        try:
            with listener.accept() as conn:
                message: Any = conn.recv()
                print(message, listener.address, listener.last_accepted)
        except AuthenticationError:
            print("not one of ours")


def ask(address: str | tuple[str, int]) -> str:
    conn = Client(address, authkey=b"secret")
    try:
        conn.send(["question"])
        result: str = conn.recv()
    except (EOFError, RemoteError):
        return ""
    finally:
        conn.close()
    return result


def drain(conns: list[Connection], worker: Process) -> list[str]:
    found: list[str] = []
    while conns:
        for ready in connection.wait(conns, timeout=1):
            assert isinstance(ready, multiprocessing.connection.Connection)
            try:
                found.append(ready.recv())
            except EOFError:
                conns.remove(ready)
    wait([worker.sentinel], None)
    return found


def both(listening: socket.socket, conn: Connection) -> int:
    return len(wait([listening, conn]))


def describe(token: Token) -> str:
    return f"{token!r} {token.address!r}"
