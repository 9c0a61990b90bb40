"""Managers: no process for the server's own objects, the stdlib's server for everything else."""

from __future__ import annotations

import gc
import multiprocessing.managers as stdlib
from collections.abc import Callable
from typing import Any

import pytest

import cloudpool.managers
from cloudpool.managers import BaseManager, SyncManager


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def add(self, n: int) -> int:
        return n + self.by

    def _hidden(self) -> str:
        return "hidden"


class Custom(SyncManager):
    pass


Custom.register("Adder", Adder)
Custom.register("Shy", Adder, exposed=("_hidden",))


class Served(BaseManager):
    pass


_shared: dict[str, int] = {}


def shared() -> dict[str, int]:
    return _shared


Served.register("shared", shared, cloudpool.managers.DictProxy)


def run(ctx: Any, target: Callable[..., None], *args: Any) -> int:
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join()
    return int(process.exitcode)


def test_a_manager_starts_no_process(ctx: Any) -> None:
    before = len(cloudpool.active_children())
    with ctx.Manager() as manager:
        manager.dict(a=manager.list([manager.Lock(), manager.Queue(), manager.Namespace()]))
        assert len(cloudpool.active_children()) == before


def test_its_proxies_are_the_stdlibs(ctx: Any) -> None:
    with ctx.Manager() as manager:
        assert isinstance(manager, stdlib.SyncManager)
        for typeid, args in [("dict", ()), ("list", ()), ("Namespace", ()), ("Value", ("i", 0)), ("Array", ("i", [0])),
                             ("Event", ()), ("Condition", ()), ("Barrier", (1,))]:  # fmt: skip
            assert isinstance(
                getattr(manager, typeid)(*args), getattr(stdlib, f"{typeid.capitalize()}Proxy")
            ), typeid
        assert isinstance(manager.Lock(), stdlib.AcquirerProxy)
        assert isinstance(manager.Queue(), stdlib.BaseProxy)


def test_methods_are_called_by_name(ctx: Any) -> None:
    with ctx.Manager() as manager:
        items, lock = manager.list([1]), manager.Lock()
        items._callmethod("append", (2,))
        assert items._callmethod("__len__") == 2
        assert items._getvalue() == [1, 2]
        assert lock._callmethod("acquire", (), {"timeout": 0.1})
        with pytest.raises(stdlib.RemoteError):
            items._callmethod("_getvalue")


def test_what_a_constructor_raises_is_a_remote_error(ctx: Any) -> None:
    with ctx.Manager() as manager:
        for make in (
            lambda: manager.dict(5),
            lambda: manager.Barrier(0),
            lambda: manager.Semaphore(-1),
            lambda: manager.BoundedSemaphore(-1),
        ):
            with pytest.raises(stdlib.RemoteError):
                make()


def test_after_shutdown_proxies_raise(ctx: Any) -> None:
    manager = ctx.Manager()
    d, items, space, lock = manager.dict(a=1), manager.list([1]), manager.Namespace(x=1), manager.Lock()
    numbers, value = manager.Array("i", [1]), manager.Value("i", 1)
    manager.shutdown()
    manager.join()
    uses: list[Callable[[], Any]] = [
        lambda: d["a"], lambda: len(d), lambda: d.update(b=1), lambda: list(d), d.clear, d.popitem, lambda: d.pop("a"),
        lambda: items[0], lambda: items.append(1), items.pop, lambda: items[:], items.sort, lambda: len(items),
        lambda: space.x, lambda: setattr(space, "x", 1), lock.acquire, lambda: numbers[0], numbers.__len__, value.get,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(ConnectionError):
            use()
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.dict()
    with pytest.raises(cloudpool.ProcessError):
        manager.start()


def test_shutdown_leaves_no_key_of_a_container(ctx: Any, store: Any) -> None:
    manager = ctx.Manager()
    made = [
        manager.dict(a=[0]),
        manager.list([manager.dict()]),
        manager.Namespace(x=1),
        manager.Array("i", [1]),
    ]
    bases = [proxy._base for proxy in made]
    assert manager._number_of_objects() == 5
    assert all(base.split("{")[1].split("}")[0] in manager._debug_info() for base in bases)
    manager.shutdown()
    assert [key for base in bases for key in store.call("KEYS", base.replace("{", "\\{") + "*")] == []


def test_objects_go_with_their_manager(ctx: Any) -> None:
    d = ctx.Manager().dict(a=1)
    gc.collect()
    assert d["a"] == 1  # a proxy keeps its manager


def _square_all(pool: Any, results: Any) -> None:
    results.extend(pool.map(abs, [-1, -2]))
    results.append(pool.apply(abs, (-3,)))


def test_a_pool_is_used_by_several_processes(ctx: Any) -> None:
    with ctx.Manager() as manager:
        results = manager.list()
        with manager.Pool(2) as pool:
            assert run(ctx, _square_all, pool, results) == 0
            assert list(pool.imap(abs, [-4])) == [4]
            assert pool.apply_async(abs, (-5,)).get() == 5
        assert results[:] == [1, 2, 3]
        with pytest.raises(stdlib.RemoteError):
            manager.Pool(0)


def test_registered_types_live_in_a_process(ctx: Any) -> None:
    with Custom(ctx=ctx) as manager:
        adder = manager.Adder(by=2)
        assert adder.add(3) == 5
        assert manager.Shy(1)._hidden() == "hidden"
        with pytest.raises(stdlib.RemoteError):
            adder._callmethod("_hidden")
        assert manager.dict(a=1)["a"] == 1
        process = manager._process
        assert process.is_alive()
    assert process.exitcode == 0


def _mark(space: Any) -> None:
    space.marked = True


def test_an_initializer_runs_in_the_managers_process(ctx: Any) -> None:
    with ctx.Manager() as first:
        space = first.Namespace(marked=False)
        second = SyncManager(ctx=ctx)
        with pytest.raises(TypeError, match="initializer must be a callable"):
            second.start(1)
        second.start(_mark, (space,))
        assert space.marked
        second.shutdown()
        second.join()


def _connect(address: Any, authkey: bytes) -> None:
    manager = Served(address=address, authkey=authkey)
    manager.connect()
    manager.shared()["far"] = 1


def test_a_manager_is_reached_by_address_and_key(ctx: Any) -> None:
    with Served(address=("127.0.0.1", 0), authkey=b"key", ctx=ctx) as manager:
        assert run(ctx, _connect, manager.address, b"key") == 0
        assert manager.shared().copy() == {"far": 1}


def _fill(address: Any, authkey: bytes) -> None:
    manager = SyncManager(address=address, authkey=authkey)
    manager.connect()
    d = manager.dict(a=1)
    assert d.copy() == {"a": 1}
    assert manager.Queue().empty()


def test_a_sync_manager_with_an_address_serves_everything(ctx: Any) -> None:
    with SyncManager(address=("127.0.0.1", 0), authkey=b"key", ctx=ctx) as manager:
        assert manager.list([1]).pop() == 1
        assert run(ctx, _fill, manager.address, b"key") == 0


def test_the_module_has_the_stdlibs_names() -> None:
    for name in [
        *stdlib.__all__,
        "DictProxy",
        "AutoProxy",
        "MakeProxyType",
        "RemoteError",
        "dispatch",
        "State",
    ]:
        assert hasattr(cloudpool.managers, name), name
    assert set(cloudpool.managers.__all__) == set(stdlib.__all__)
