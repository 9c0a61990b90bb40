"""install() and `run` change what `import multiprocessing` means, in their process and its children alone, and take it back."""

import sys

import pytest
from running import ROOT, SETTINGS, connections, python

# What there is of multiprocessing in an interpreter: all names of all its modules, of builtins and of what imports it.
EVERYTHING = """
import builtins, concurrent.futures.process, importlib, multiprocessing, pkgutil, sys, threading
skipped = ("popen_spawn_win32",)
modules = [builtins, sys, importlib, threading, concurrent.futures.process, multiprocessing]
for entry in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing."):
    if not entry.name.endswith(skipped):
        modules.append(importlib.import_module(entry.name))

def everything():
    found = {}
    for module in modules:
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if isinstance(value, type) and value.__module__.startswith("multiprocessing"):
                found.update({(module.__name__, name, inner): thing for inner, thing in vars(value).items()})
    server = multiprocessing.forkserver._forkserver
    found.update({("forkserver", name): value for name, value in vars(server).items()})
    found["preload"] = list(server._preload_modules)
    found.update({("sys.modules", name): module for name, module in sys.modules.items() if "cloudpool" not in name})
    return found

def same(before, after):
    changed = {name for name in before if name not in after or after[name] is not before[name]}
    new = {name for name in after if name not in before and name[0] != "sys.modules"}
    # Counters, and what the interpreter itself keeps
    mine = {("builtins", "_"), ("sys", "last_value")} | {name for name in changed if type(before[name]) in (int, list)}
    return sorted(map(str, (changed | new) - mine))
"""


def output(text, folder, *how, **environ):
    (folder / "program.py").write_text(text)
    done = python([*how, "program.py"], folder, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


RUN = ("-m", "cloudpool", "run")


def test_uninstall_restores_every_name(tmp_path):
    text = (
        EVERYTHING
        + """
import cloudpool
import cloudpool.install as install
before = everything()
cloudpool.install()
import multiprocessing as ours
print(ours.__name__, same(before, everything()) != [])
install.uninstall()
import multiprocessing as theirs
print(theirs.__name__, theirs is multiprocessing, same(before, everything()))
"""
    )
    assert output(text, tmp_path) == ["cloudpool True", "multiprocessing True []"]


def test_installing_twice_is_installing_once(tmp_path):
    text = (
        EVERYTHING
        + """
import cloudpool
import cloudpool.install as install
before = everything()
cloudpool.install()
install.install()
install.uninstall()
print(same(before, everything()))
install.uninstall()
print(same(before, everything()))
"""
    )
    assert output(text, tmp_path) == ["[]", "[]"]


def test_working_on_cloudpool_leaves_the_stdlib_as_it_was(tmp_path):
    """A session, a Pool, a Manager, each primitive: no function or class of multiprocessing is another afterwards."""
    text = (
        EVERYTHING
        + """
def work():
    from multiprocessing import Array, Barrier, Condition, Event, Lock, Manager, Pipe, Pool, Process, Queue, Value
    with Pool(2) as pool:
        print(pool.map(abs, [-1]), type(pool).__module__)
    with Manager() as manager:
        print(manager.list([1]))
    q = Queue()
    process = Process(target=q.put, args=(1,))
    process.start()
    process.join()
    print(q.get(), Array("i", 1)[0], Value("i").value, Event().is_set(), Pipe()[0].poll(), Barrier(1).wait())

if __name__ == "__main__":
    import cloudpool
    import cloudpool.install as install
    before = everything()
    cloudpool.install()
    work()
    install.uninstall()
    print([name for name in same(before, everything()) if not name.startswith("('multiprocessing.util', '_")])
"""
    )
    last = output(text, tmp_path)[-1]
    assert last == "[]"


def test_after_uninstall_new_processes_have_the_stdlib(tmp_path):
    text = """
import sys
def who():
    import multiprocessing
    print(multiprocessing.__name__, flush=True)

if __name__ == "__main__":
    import cloudpool, cloudpool.install as install
    import multiprocessing as mp
    for change in (cloudpool.install, install.uninstall):
        change()
        for method in ("fork", "spawn", "forkserver"):
            process = mp.get_context(method).Process(target=who)
            process.start()
            process.join()
"""
    assert output(text, tmp_path) == ["cloudpool"] * 3 + ["multiprocessing"] * 3


def test_other_interpreters_have_the_stdlib(tmp_path):
    text = """
import os, subprocess, sys
print(sorted(name for name in os.environ if "CLOUDPOOL" in name or name in ("PYTHONSTARTUP", "PYTHONHOME")))
sys.stdout.flush()
program = "import multiprocessing, sys; print(multiprocessing.__name__, 'cloudpool' in sys.modules)"
subprocess.run([sys.executable, "-c", program])
"""
    assert output(text, tmp_path, *RUN) == [str(sorted(SETTINGS)), "multiprocessing False"]


IMPORTS = {
    "import": "import multiprocessing as mp; Pool = mp.Pool",
    "from": "from multiprocessing import Pool",
    "from-all": "from multiprocessing import *",
    "submodule-as": "import multiprocessing.pool as p; Pool = p.Pool",
    "submodule-through-the-package": "import multiprocessing.pool; Pool = multiprocessing.pool.Pool",
    "submodule-from-the-package": "from multiprocessing import pool; Pool = pool.Pool",
    "submodule-without-import": "import multiprocessing; Pool = multiprocessing.pool.Pool",
    "class-from-a-submodule": "from multiprocessing.pool import Pool",
    "submodule-first": "import multiprocessing.queues, multiprocessing.pool as p; Pool = p.Pool",
    "in-a-function": "def f():\n    from multiprocessing import Pool\n    return Pool\nPool = f()",
    "by-name": "Pool = __import__('multiprocessing', globals()).Pool",
    "by-exec": "exec('from multiprocessing import Pool', globals())",
    "importlib": "import importlib; Pool = importlib.import_module('multiprocessing').Pool",
    "importlib-submodule": "import importlib; Pool = importlib.import_module('multiprocessing.pool').Pool",
    "importlib-relative": "import importlib; Pool = importlib.import_module('.pool', 'multiprocessing').Pool",
    "pkgutil": "import pkgutil; Pool = pkgutil.resolve_name('multiprocessing:Pool')",
}


@pytest.mark.parametrize(
    "earlier", ["", "import concurrent.futures.process, logging.handlers, lib"], ids=["", "later"]
)
@pytest.mark.parametrize("how", IMPORTS.values(), ids=IMPORTS)
def test_each_way_of_importing_gives_cloudpool(tmp_path, how, earlier):
    (tmp_path / "lib.py").write_text("import multiprocessing, multiprocessing.pool\n")
    text = f"{earlier}\n{how}\nprint(type(Pool(1)).__module__)\n"
    assert output(text, tmp_path, *RUN) == ["cloudpool.context.pool"]


def test_mock_patch_of_a_name_is_seen_by_the_program(tmp_path):
    text = """
import multiprocessing
from unittest import mock
with mock.patch("multiprocessing.cpu_count", return_value=77):
    print(multiprocessing.cpu_count())
print(multiprocessing.cpu_count() == 77)
"""
    assert output(text, tmp_path, *RUN) == ["77", "False"]


def test_a_library_imported_before_install_gets_cloudpool_too(tmp_path):
    """As in a notebook or a conftest: what has bound the stdlib's names by then is what install() finds in sys.modules."""
    text = """
def f(x):
    return x + 1

if __name__ == "__main__":
    import concurrent.futures.process
    from concurrent.futures import ProcessPoolExecutor
    import cloudpool
    cloudpool.install()
    from cloudpool.host import session
    with ProcessPoolExecutor(1) as executor:
        print(executor.submit(f, 1).result())
    print(session.existing() is not None)
"""
    assert output(text, tmp_path) == ["2", "True"]


def test_program_that_never_uses_multiprocessing_runs_as_if_nothing_was_there(tmp_path, tcp_server):
    text = """
import os, signal, sys, threading, warnings
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("redis", "hiredis", "tqdm")))
print(__name__, __file__.endswith("program.py"), sys.argv, threading.active_count(), os.listdir("/proc/self/task") != [])
print([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)] ==
      [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN])
print(len(os.listdir("/proc/self/fd")), sorted(set(os.environ) & {"CLOUDPOOL_START_METHOD"}), warnings.filters)
"""
    before = connections(tcp_server)
    as_ever = output(text, tmp_path)
    assert output(text, tmp_path, *RUN, CLOUDPOOL_REDIS_URL=tcp_server.url) == as_ever
    assert connections(tcp_server) == before + 1  # this test's own


def test_processes_that_share_nothing_start_no_session(tmp_path, tcp_server):
    text = """
import multiprocessing, sys
def f():
    print("worked", flush=True)
    sys.exit(3)

if __name__ == "__main__":
    process = multiprocessing.Process(target=f)
    process.start()
    process.join()
    print(multiprocessing.__name__, process.exitcode)
"""
    before = connections(tcp_server)
    said = output(text, tmp_path, *RUN, CLOUDPOOL_REDIS_URL=tcp_server.url)
    assert said == ["worked", "cloudpool 3"]
    assert connections(tcp_server) == before + 1  # this test's own


def test_pickles_name_the_stdlib_module_where_the_object_is_its(tmp_path):
    """What a program under `run` has pickled can be read by one that is not, and the other way round."""
    text = """
import pickle, sys, multiprocessing, multiprocessing.pool
from multiprocessing import TimeoutError
if len(sys.argv) == 1:
    sys.stdout.write(pickle.dumps([TimeoutError("t"), multiprocessing.ProcessError("p")], 0).decode())
else:
    print([(type(e).__module__, str(e)) for e in pickle.loads(sys.argv[1].encode())])
"""
    (tmp_path / "program.py").write_text(text)
    for write, read in ((RUN, ()), ((), RUN)):
        pickled = python([*write, "program.py"], tmp_path).stdout
        said = python([*read, "program.py", pickled], tmp_path).stdout
        assert said == "[('multiprocessing.context', 't'), ('multiprocessing.context', 'p')]\n"


def test_exit_handlers_find_the_programs_other_children_alive(tmp_path):
    """Other packages' processes too: a session ends after everything that was registered before it began."""
    text = """
import atexit, os
ask_r, ask_w = os.pipe()
answer_r, answer_w = os.pipe()

def last_words():
    os.write(ask_w, b"x")
    print(os.read(answer_r, 1), os.waitpid(pid, 0)[1])

atexit.register(last_words)
import multiprocessing
lock = multiprocessing.Lock()
pid = os.fork()
if pid == 0:
    with lock:
        os.write(answer_w, b"r")
        os.read(ask_r, 1)
    os.write(answer_w, b"y")
    os._exit(0)
os.close(answer_w)
os.read(answer_r, 1)  # it has the lock
"""
    assert output(text, tmp_path) == ["b'y' 0"]
    edited = text.replace("import multiprocessing", "import cloudpool as multiprocessing")
    assert output(edited, tmp_path) == ["b'y' 0"]


def test_install_is_in_force_under_the_names_of_this_checkout(tmp_path):
    """The tests above have run this checkout, not an installed cloudpool."""
    assert output("import cloudpool; print(cloudpool.__file__)", tmp_path) == [
        str(ROOT / "cloudpool/__init__.py")
    ]
    assert sys.version_info >= (3, 11)
