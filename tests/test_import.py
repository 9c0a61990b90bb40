"""What `import cloudpool` costs and offers. Its time is that of the modules it loads, so these are counted."""

import importlib
import multiprocessing
import os
import subprocess
import sys

import pytest

import cloudpool

STDLIB_SUBMODULES = ["connection", "context", "dummy", "forkserver", "heap", "managers", "pool", "process", "queues",
                     "reduction", "resource_sharer", "resource_tracker", "shared_memory", "sharedctypes", "spawn",
                     "synchronize", "util"]  # fmt: skip


def loaded_by(program: str) -> set[str]:
    """The modules that are there after `program` and not after `import multiprocessing`."""
    code = f"import sys, multiprocessing; before = set(sys.modules)\n{program}\nprint(*set(sys.modules) - before)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDPOOL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, capture_output=True, timeout=20, check=True
    )
    return set(done.stdout.split())


def test_import_loads_nothing_beside_itself():
    assert loaded_by("import cloudpool") == {"cloudpool", "atexit"}


def test_process_that_shares_nothing_loads_no_client_and_starts_no_session():
    loaded = loaded_by(
        "import cloudpool\n"
        "process = cloudpool.get_context('fork').Process(target=int); process.start(); process.join()\n"
        "assert process.exitcode == 0\n"
        "from cloudpool.host import session; assert session.existing() is None"
    )
    assert not loaded & {"redis", "hiredis", "tqdm", "cloudpickle", "dill", "numpy", "asyncio"}
    assert not any(name.startswith("cloudpool.store") for name in loaded)


def test_first_queue_loads_neither_redis_py_nor_what_only_some_programs_need():
    loaded = loaded_by("import cloudpool; q = cloudpool.Queue(); q.put(1); assert q.get() == 1")
    assert "hiredis" in loaded
    assert not loaded & {"redis", "tqdm", "cloudpickle", "dill", "numpy", "asyncio", "ssl"}


def test_every_public_name_of_multiprocessing_is_there():
    assert set(multiprocessing.__all__) <= set(cloudpool.__all__)
    missing = [name for name in multiprocessing.__all__ if not hasattr(cloudpool, name)]
    assert missing == []
    assert set(multiprocessing.__all__) <= set(dir(cloudpool))


def test_names_that_multiprocessing_does_not_have_are_hidden_or_cloudpools_own():
    done = "import cloudpool; print(*[name for name in vars(cloudpool) if name[0] != '_'], *vars(cloudpool)['__all__'])"
    names = subprocess.run(
        [sys.executable, "-c", done], text=True, capture_output=True, timeout=20, check=True
    )
    assert set(names.stdout.split()) == {*multiprocessing.__all__, "sys"}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Lokc'"):
        _ = cloudpool.Lokc


@pytest.mark.parametrize("name", STDLIB_SUBMODULES)
def test_submodules_have_the_stdlibs_public_names(name):
    ours = importlib.import_module(f"cloudpool.{name}")
    theirs = importlib.import_module(f"multiprocessing.{name}")
    assert [public for public in getattr(theirs, "__all__", ()) if not hasattr(ours, public)] == []
    assert getattr(cloudpool, name) is ours


@pytest.mark.parametrize("name", STDLIB_SUBMODULES)
def test_submodules_are_imported_alone(name):
    program = f"import cloudpool.{name}"
    subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=20, check=True)


def test_on_windows_the_import_says_in_one_line_where_it_runs():
    program = "import sys; sys.platform = 'win32'; import cloudpool"
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, timeout=20)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "WSL" in last
