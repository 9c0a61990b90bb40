"""Which arrays of joblib's pools go by the path of a file, and which by value."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cloudpool import serialize
from cloudpool.context import memory_maps

np = pytest.importorskip("numpy")


def arrays(path: Path) -> dict[str, Any]:
    np.arange(6.0).tofile(path)
    made = {mode: np.memmap(path, dtype=float, mode=mode, shape=6) for mode in ("r", "c", "r+")}
    made["no file"] = np.arange(6.0)
    with tempfile.TemporaryFile() as file:
        made["a file without a name"] = np.memmap(file, dtype=float, mode="w+", shape=6)
    made["a part of r+"] = made["r+"][1:4]
    return made


def by_path(array: Any) -> Any:
    return str, (f"by path, {array.size}",)


def sent(array: Any, reducers: serialize.Reducers) -> Any:
    return pickle.loads(b"".join(serialize.dumps_apart(array, None, reducers=reducers)[0]))


@pytest.mark.parametrize(
    ("kind", "goes"),
    [("r", "by path, 6"), ("r+", "by path, 6"), ("a part of r+", "by path, 3"), ("c", ""), ("no file", ""), ("a file without a name", "")],
)  # fmt: skip
def test_on_this_host_maps_of_files_go_by_path(tmp_path, kind, goes):
    reducer = memory_maps.mapped_alone(by_path)
    array = arrays(tmp_path / "data")[kind]
    found = sent(array, {np.ndarray: reducer, np.memmap: reducer})
    assert (found if goes else found.tolist()) == (goes or array.tolist())


@pytest.mark.parametrize("kind", ["r", "c", "no file", "a file without a name"])
def test_to_another_host_arrays_go_by_value(tmp_path, kind):
    array = arrays(tmp_path / "data")[kind]
    reducers = memory_maps.for_far({np.ndarray: by_path, np.memmap: by_path})
    assert sent(array, reducers).tolist() == array.tolist()


@pytest.mark.parametrize("kind", ["r+", "a part of r+"])
def test_what_workers_elsewhere_cannot_write_to_is_an_error_that_names_it(tmp_path, kind):
    reducers = memory_maps.for_far({np.ndarray: by_path, np.memmap: by_path})
    with pytest.raises(pickle.PicklingError, match=r"cannot write to .*data, a file of this one") as caught:
        sent(arrays(tmp_path / "data")[kind], reducers)
    assert str(caught.value).count("\n") == 1
