"""Namespace, Value and Array of a manager."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterator
from multiprocessing import managers
from typing import Any

import numpy as np
import pytest

from cloudpool.sync.containers.namespace import NamespaceProxy, _Names
from cloudpool.sync.shared import Shared


@pytest.fixture
def manager(ctx: Any) -> Iterator[Any]:
    with ctx.Manager() as manager:
        yield manager


def _move(space: Any, value: Any, numbers: Any) -> None:
    space.x += 1
    value.value *= 2
    numbers[-1] = 9


def test_another_process_changes_them(ctx: Any, manager: Any) -> None:
    space, value, numbers = manager.Namespace(x=1), manager.Value("d", 1.5), manager.Array("i", [1, 2])
    process = ctx.Process(target=_move, args=(space, value, numbers))
    process.start()
    process.join()
    assert (space.x, value.get(), numbers[:]) == (2, 3.0, array("i", [1, 9]))
    assert (str(space), str(value), str(numbers)) == (
        "Namespace(x=2)",
        "Value('d', 3.0)",
        "array('i', [1, 9])",
    )


def test_a_namespace_has_attributes(manager: Any) -> None:
    space = manager.Namespace(b=1)
    space.a = np.zeros(50_000)
    space.a = [1]
    space._own = 1
    assert not hasattr(space, "c")
    assert str(space) == "Namespace(a=[1], b=1)"
    del space.a
    with pytest.raises(AttributeError, match="'Namespace' object has no attribute 'a'"):
        space.a  # noqa: B018
    with pytest.raises(AttributeError):
        del space.a
    assert space._callmethod("__getattribute__", ("b",)) == 1


def test_an_array_is_typed(manager: Any) -> None:
    numbers = manager.Array("h", range(4))
    numbers[1:3] = array("h", [7])
    assert list(numbers) == [0, 7, 3]
    assert numbers[::-2] == array("h", [3, 0])
    with pytest.raises(OverflowError):
        numbers[0] = 2**20
    with pytest.raises(TypeError):
        numbers[0] = "a"
    for index in (3, -4):
        with pytest.raises(IndexError, match="array index out of range"):
            numbers[index]
        with pytest.raises(IndexError, match="array assignment index out of range"):
            numbers[index] = 1
    assert len(manager.Array("d", [])) == 0


def test_a_namespaces_own_attributes_may_have_any_name_with_an_underscore(manager: Any) -> None:
    namespace = manager.Namespace(name="Bob")
    namespace._hidden, namespace._shown, namespace._value = "hidden", "shown", 1
    namespace.job = "Builder"
    assert (namespace._hidden, namespace._shown, namespace._value) == ("hidden", "shown", 1)
    assert str(namespace) == "Namespace(job='Builder', name='Bob')"


def test_a_namespaces_own_attributes_hide_nothing_that_it_needs(manager: Any) -> None:
    """Whatever they are called: any name of its insides may be a program's."""
    namespace = manager.Namespace(name="Bob")
    inside = vars(next(value for value in vars(namespace).values() if isinstance(value, Shared)))
    names = {name for cls in NamespaceProxy.__mro__ + _Names.__mro__ for name in vars(cls)} | set(inside)
    for name in names:
        if name[0] == "_" and name[:2] != "__" and name not in dir(managers.NamespaceProxy):
            setattr(namespace, name, "mine")
    assert {"_pack", "_where", "_change", "_session"} <= set(vars(namespace))
    namespace.job = namespace.name + " the Builder"
    again = pickle.loads(pickle.dumps(namespace))
    assert (namespace._pack, again.job) == ("mine", "Bob the Builder")
    del namespace.name, namespace._pack
    assert str(again) == str(namespace) == "Namespace(job='Bob the Builder')"
