"""A program sees on a far host what spawn would show it: its modules, files, `__main__`, however it is run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from far_hosts import once
from needed import needed

PLUGIN = str(Path(__file__).parent / "plugin")
ROOT = str(Path(__file__).parents[2])
MAIN = """
import cloudpool as multiprocessing
import json, os, sys

class Thing:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return type(other) is Thing and other.n == self.n

def square(x):
    return Thing(x.n * x.n)

def main():
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, [Thing(n) for n in range(5)]) == [Thing(n * n) for n in range(5)]
        assert pool.map(lambda x: x + 1, range(3)) == [1, 2, 3]
        print(pool.apply(os.getpid) > 2**22)
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=lambda thing: queue.put(square(thing)), args=(Thing(3),))
    process.start()
    assert queue.get() == Thing(9)
    process.join()

if __name__ == "__main__":
    main()
"""

LAUNCHES = {
    "script": ("main.py",),
    "-m": ("-m", "main"),
    "python -m cloudpool run": ("-m", "cloudpool", "run", "--on", "subprocess", "main.py"),
    "python -m cloudpool run -m": ("-m", "cloudpool", "run", "--on", "subprocess", "-m", "main"),
    "-c": ("-c", MAIN),
    "python -m cloudpool run -c": ("-m", "cloudpool", "run", "--on", "subprocess", "-c", MAIN),
}


@pytest.mark.parametrize("launch", LAUNCHES.values(), ids=LAUNCHES)
def test_main_module(script, launch):
    assert script(MAIN, launch=launch).end() == (0, "True\n", "")


def test_main_module_from_stdin(script):
    assert script(MAIN, launch=("-",)).end(MAIN) == (0, "True\n", "")


def test_package_that_is_run(script, tmp_path):
    package = tmp_path / "forecast" / "inner"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "model.py").write_text("from ..config import factor\ndef scaled(x): return factor * x\n")
    (package.parent / "config.py").write_text(
        "import json, pathlib\nfactor = 3\n"
        "def data(_): return json.loads((pathlib.Path(__file__).parent / 'data.json').read_text())\n"
    )
    (package.parent / "data.json").write_text("[1, 2]")
    (package.parent / "__main__.py").write_text(
        "import cloudpool as multiprocessing\n"
        "from .inner.model import scaled\n"
        "from .config import data\n"
        "def twice(x): return scaled(x) + scaled(x)\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(1) as pool: print(pool.map(twice, [1, 2]), pool.map(data, [0]))\n"
    )
    assert script("", launch=("-m", "forecast")).end() == (0, "[6, 12] [[1, 2]]\n", "")


def test_program_without_a_guard(script):
    """Module code runs again over there, as under spawn; what it prints shows that, and it starts nothing."""
    source = (
        "import cloudpool as multiprocessing, os\n"
        "def work(x): return x * 2\n"
        "print('module', __name__)\n"
        "with multiprocessing.Pool(1) as pool:\n"
        "    print(pool.map(work, [1, 2]))\n"
    )
    code, said, complained = script(source).end()
    assert code == 1
    assert "module __mp_main__" in said
    assert 'if __name__ == "__main__"' in complained or "if __name__ == '__main__'" in complained


def test_files_that_are_nowhere_are_warned_of(script):
    source = "import cloudpool, sys\nif __name__ == '__main__':\n    p = cloudpool.Process(target=abs, args=(1,))\n    p.start()\n    p.join()\n"
    code, _, complained = script(source, files="*.py,data/*.csv").end()
    assert code == 0
    assert complained.count("UserWarning: nothing matches 'data/*.csv' of CLOUDPOOL_FILES in ") == 1


def test_files_beside_the_script(script, tmp_path):
    (tmp_path / "numbers.csv").write_text("1,2,3")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "deep.txt").write_text("deep")
    (tmp_path / "helper.py").write_text("LIMIT = 5\n")
    source = (
        "import cloudpool as multiprocessing\n"
        "def read(name):\n    import helper\n    return open(name).read(), helper.LIMIT\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(2) as pool: print(pool.map(read, ['numbers.csv', 'data/deep.txt']))\n"
    )
    assert script(source).end() == (0, "[('1,2,3', 5), ('deep', 5)]\n", "")


WRITES = """
import cloudpool as multiprocessing, pathlib, sys, tempfile

def write(n):
    with tempfile.NamedTemporaryFile("w") as scratch:
        scratch.write("scratch")
    if n >= 0:
        pathlib.Path(f"result{n}.csv").write_text("lost")

if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool: pool.map(write, [int(n) for n in sys.argv[1:]], 1)
"""


def test_file_that_goes_with_its_host_is_told_of_once(script):
    code, _, complained = script(WRITES, "1", "2", TEST_HOSTS=1).end()
    assert code == 0
    first, second = complained.splitlines()
    assert first.startswith("cloudpool: result1.csv is written on the host")
    assert second.startswith("Return results, write them to object storage")


def test_scratch_files_are_nobodys_loss(script):
    assert script(WRITES, "-1", "-1").end() == (0, "", "")


EDITED = """
import cloudpool as multiprocessing, os, pathlib, sys, time

def work(queue):
    import model
    queue.put(model.VERSION)

if __name__ == "__main__":
    queue, beside = multiprocessing.Queue(), pathlib.Path(__file__).with_name("model.py")
    for version in (1, 2):
        beside.write_text(f"VERSION = {version}\\n")
        time.sleep(1.1)  # a change is looked for once a second
        process = multiprocessing.Process(target=work, args=(queue,))
        process.start()
        process.join()
        print(queue.get())
"""


def test_module_that_is_edited_between_two_starts(script):
    assert script(EDITED).end() == (0, "1\n2\n", "")


def test_editable_install_and_zip_on_the_path(script, tmp_path_factory):
    source = tmp_path_factory.mktemp("checkout") / "src"
    (source / "edited_package").mkdir(parents=True)
    (source / "edited_package" / "__init__.py").write_text("NAME = 'editable'\n")
    archive = tmp_path_factory.mktemp("zips") / "zipped.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_module.py", "NAME = 'zipped'\n")
    main = (
        "import sys\n"
        f"sys.path.append({str(source)!r}); sys.path.append({str(archive)!r})\n"  # as a .pth file would
        "import cloudpool as multiprocessing\n"
        "def names(_):\n    import edited_package, zipped_module\n"
        "    return edited_package.NAME, zipped_module.NAME, edited_package.__file__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(1) as pool: print(*pool.map(names, [0])[0])\n"
    )
    code, said, complained = script(main).end()
    assert (code, complained) == (0, "")
    names = said.split()
    assert names[:2] == ["editable", "zipped"]
    assert names[2] != str(source / "edited_package" / "__init__.py")


def test_runner_that_is_where_only_the_program_looks(script, tmp_path_factory):
    """Not installed, nor in PYTHONPATH: a checkout, or a zip, that the program puts on its path."""
    source = (
        "import sys\n"
        f"sys.path.append({PLUGIN!r})\n"
        "import cloudpool as multiprocessing\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(2) as pool: print(pool.map(square, range(4)))\n"
    )
    assert script(source, PYTHONPATH=ROOT).end() == (0, "[0, 1, 4, 9]\n", "")


def test_global_that_an_initializer_sets(script):
    source = (
        "import cloudpool as multiprocessing\n"
        "def begin(n):\n    global number\n    number = n\n"
        "def work(x): return x + number\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(2, begin, (10,)) as pool: print(pool.map(work, range(3)))\n"
    )
    assert script(source).end() == (0, "[10, 11, 12]\n", "")


def test_locale_and_timezone(script):
    source = (
        "import cloudpool as multiprocessing, locale, os, time\n"
        "def here(): return os.environ.get('LC_ALL'), time.tzname, locale.getpreferredencoding()\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(1) as pool: print(pool.apply(here) == here(), here()[0])\n"
    )
    assert script(source, LC_ALL="C.UTF-8", TZ="Asia/Tokyo").end() == (0, "True C.UTF-8\n", "")


def test_under_pytest(script, tmp_path):
    (tmp_path / "test_of_users.py").write_text(
        "import cloudpool as multiprocessing\n"
        "def square(x): return x * x\n"
        "def test_map():\n    with multiprocessing.Pool(2) as pool: assert pool.map(square, [2, 3]) == [4, 9]\n"
    )
    launch = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_of_users.py")
    code, said, complained = script("", launch=launch).end()
    assert code == 0, said + complained
    assert "1 passed" in said


@pytest.mark.skipif(importlib.util.find_spec("IPython") is None, reason="IPython is not here")
def test_in_ipython(script):
    cell = "import cloudpool as m\ndef f(x): return x * x\nwith m.Pool(2) as pool: print(pool.map(f, [2, 3]))"
    code, said, complained = script("", launch=("-m", "IPython", "--colors=NoColor", "-c", cell)).end()
    assert code == 0, complained
    assert "[4, 9]" in said


def test_process_pool_executor(script):
    source = (
        "import cloudpool, os\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "def square(x): return x * x\n"
        "def fail(): raise LookupError('of the test')\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(3, mp_context=cloudpool.get_context('subprocess')) as executor:\n"
        "        print(list(executor.map(square, range(50))) == [x * x for x in range(50)])\n"
        "        print(executor.submit(os.getpid).result() > 2**22, repr(executor.submit(fail).exception()))\n"
    )
    assert script(source).end() == (0, "True\nTrue LookupError('of the test')\n", "")


def test_process_pool_executor_of_a_program_that_is_run_unedited(script):
    source = (
        "import os\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(2) as executor:\n"
        "        print(list(executor.map(square, range(50))) == [x * x for x in range(50)])\n"
        "        print(executor.submit(os.getpid).result() > 2**22)\n"
    )
    program = script(source, launch=("-m", "cloudpool", "run", "main.py"))
    assert program.end() == (0, "True\nTrue\n", "")


def test_process_pool_executor_whose_worker_dies(script):
    source = (
        "import cloudpool, os\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(2, mp_context=cloudpool.get_context('subprocess')) as executor:\n"
        "        print(type(executor.submit(os._exit, 1).exception()).__name__)\n"
    )
    assert script(source).end() == (0, "BrokenProcessPool\n", "")


def test_psutil_knows_this_process(script):
    pytest.importorskip("psutil")
    source = (
        "import cloudpool, os\n"
        "def look():\n"
        "    import psutil\n"
        "    mine = psutil.Process(os.getpid()), psutil.Process()\n"
        "    assert mine[0] == mine[1] and psutil.pid_exists(os.getpid()) and not psutil.pid_exists(2**22 + 10**6)\n"
        "    return mine[0].memory_info().rss > 10**6, mine[0].ppid() == psutil.Process(mine[0].ppid()).pid\n"
        "if __name__ == '__main__':\n"
        "    with cloudpool.Pool(1) as pool:\n"
        "        print(pool.apply(look))\n"
    )
    assert script(source).end() == (0, "(True, True)\n", "")


def test_executor(script):
    source = (
        "import cloudpool, os\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    with cloudpool.Executor(3) as executor:\n"
        "        print(list(executor.map(square, range(5))), executor.submit(os.getpid).result() > 2**22)\n"
    )
    assert script(source).end() == (0, "[0, 1, 4, 9, 16] True\n", "")


EVOLUTION = """
import multiprocessing, numpy as np

SIZE, POPULATION, STEPS, WORKERS = 2_000, 24, 4, 4

def view(noise):
    return np.frombuffer(noise, dtype="f8")

def worker(number, noise, parameters, tasks, results):
    noise = view(noise)
    parameters = np.frombuffer(parameters.get_obj(), dtype="f8")
    while (task := tasks.get()) is not None:
        step, individual = task
        rng = np.random.RandomState(1000 * step + individual)
        at = rng.randint(0, len(noise) - SIZE)
        guess = parameters + 0.1 * noise[at : at + SIZE]
        results.put((individual, at, float(-((guess - np.sin(np.arange(SIZE))) ** 2).sum())))

def main():
    noise = multiprocessing.RawArray("d", 200_000)
    view(noise)[:] = np.random.RandomState(7).randn(200_000)
    shared = multiprocessing.Array("d", SIZE)
    parameters = np.frombuffer(shared.get_obj(), dtype="f8")
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=worker, args=(n, noise, shared, tasks, results)) for n in range(WORKERS)]
    for process in workers: process.start()
    table = view(noise)
    for step in range(STEPS):
        for individual in range(POPULATION):
            tasks.put((step, individual))
        found = sorted(results.get() for _ in range(POPULATION))
        rewards = np.array([reward for _, _, reward in found])
        weights = (rewards - rewards.mean()) / rewards.std()
        with shared.get_lock():
            for (_, at, _), weight in zip(found, weights):
                parameters += 0.05 / POPULATION * weight * table[at : at + SIZE]
        print(step, repr(rewards.mean()), repr(parameters.sum()))
    for _ in workers: tasks.put(None)
    for process in workers: process.join()
    print([process.exitcode for process in workers])

if __name__ == "__main__":
    main()
"""


IN_SHARED_MEMORY = {
    'noise = multiprocessing.RawArray("d", 200_000)': "noise = SharedMemory(create=True, size=1_600_000)",
    'return np.frombuffer(noise, dtype="f8")': 'return np.ndarray(200_000, dtype="f8", buffer=noise.buf)',
    "import multiprocessing, numpy as np": "import multiprocessing, numpy as np\nfrom multiprocessing.shared_memory import SharedMemory",
    "    print([process.exitcode for": "    noise.unlink()\n    print([process.exitcode for",
}  # fmt: skip


@once
@pytest.mark.parametrize("changes", [{}, IN_SHARED_MEMORY], ids=["RawArray", "SharedMemory"])
def test_evolution_strategy_with_shared_noise_on_four_hosts(script, tmp_path, changes):
    """Unmodified code, and the numbers of the stdlib's multiprocessing."""
    needed("numpy")
    source = EVOLUTION
    for before, after in changes.items():
        assert before in source
        source = source.replace(before, after)
    launch = ("-m", "cloudpool", "run", "--on", "subprocess", "main.py")
    there = script(source, launch=launch, TEST_HOSTS=4, TEST_SLOTS=1).end()
    stdlib = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert there == (0, stdlib.stdout, "")
    assert stdlib.stdout.endswith("[0, 0, 0, 0]\n")
