"""python -m cloudpool, run as a user runs it."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 60

# Says who `multiprocessing` is in the main module and in children of each start method.
WHO = """
import sys
import multiprocessing
import multiprocessing.pool as pool_module
from multiprocessing.queues import SimpleQueue

def who():
    print("child", multiprocessing.__name__, __name__, sys.argv[1:], flush=True)

if __name__ == "__main__":
    print(multiprocessing.__name__, pool_module.__name__)
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=who)
        process.start()
        process.join()
"""

# Says what a script can see of how it was started.
SURROUNDINGS = """
import sys
print(__name__, __file__, __spec__, __package__, __cached__, sys.argv, sys.path[0])
print(sys.modules["__main__"].__dict__ is globals(), type(__loader__).__name__, sorted(globals()))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder and an empty home: no settings from this machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in [name for name in os.environ if name.startswith("CLOUDPOOL_")]:
        monkeypatch.delenv(variable)
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def python(*args, stdin=None, **environ):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *map(str, args)],
        env={**os.environ, "PYTHONPATH": path, **environ},
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def cloudpool(*args, **options):
    return python("-m", "cloudpool", *args, **options)


def script(folder, text, name="script.py"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_version_is_one_line(folder):
    done = cloudpool("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cloudpool ")
    assert done.stdout.count("\n") == 1


def test_config_prints_each_value_and_where_it_came_from(folder):
    (folder / "cloudpool.toml").write_text("retries = 7\n")
    done = cloudpool("config", CLOUDPOOL_REDIS_URL="redis://user:secret@host", CLOUDPOOL_WORKERS="3")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert done.returncode == 0
    assert rows["redis_url"] == ["redis://user:***@host", "environment CLOUDPOOL_REDIS_URL"]
    assert rows["workers"] == ["3", "environment CLOUDPOOL_WORKERS"]
    assert rows["retries"] == ["7", str(folder / "cloudpool.toml")]
    assert rows["lease_s"] == ["15.0", "default"]


def test_a_bad_setting_is_one_line_and_a_traceback_only_under_debug(folder):
    done = cloudpool("config", CLOUDPOOL_WORKERS="four")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "cloudpool: environment CLOUDPOOL_WORKERS: workers = four is not a whole number of at least 1.\n"
    )
    for args in (["--debug", "config"], ["config", "--debug"]):
        assert "Traceback" in cloudpool(*args, CLOUDPOOL_WORKERS="four").stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run"], "run needs a script"),
        (["run", "nosuch.py"], "cannot open the script nosuch.py: No such file or directory"),
        (
            ["run", "--on", "frok", "-c", "pass"],
            "argument: start_method = frok is none of fork, spawn, forkserver",
        ),
        (["run", "--workers", "0", "-c", "pass"], "argument: workers = 0 is not a whole number"),
        (["run", "--worker", "2", "-c", "pass"], "run has no option --worker (did you mean --workers?)"),
        (["config", "-x"], "config has no option -x"),
        (["acl", "--usr", "me"], "acl has no option --usr (did you mean --user?)"),
        (["acl", "me"], "acl has no option me: it has --user, --debug"),
    ],
)
def test_a_wrong_command_is_one_line_with_status_2(folder, args, said):
    done = cloudpool(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_script_sees_what_python_would_show_it(folder):
    path = script(folder, SURROUNDINGS, "scripts/script.py")
    args = [path.relative_to(folder), "--help", "-x", "--on", "y", "--debug"]
    assert cloudpool("run", *args).stdout == python(*args).stdout


def test_a_module_sees_what_python_would_show_it(folder):
    script(folder, SURROUNDINGS.replace("__spec__,", "__spec__.name,"), "package/module.py")
    args = ["-m", "package.module", "--help", "-c", "--debug"]
    assert cloudpool("run", *args).stdout == python(*args).stdout


def test_program_text_sees_what_python_would_show_it(folder):
    text = "import sys; print(__name__, __spec__, sys.argv, sys.path[0], sorted(globals()))"
    args = ["-c", text, "-m", "x"]
    assert cloudpool("run", *args).stdout == python(*args).stdout


def test_a_folder_sees_what_python_would_show_it(folder):
    script(folder, SURROUNDINGS.replace("__spec__,", "__spec__.name,"), "program/__main__.py")
    for args in (["program", "--help"], ["./program/"]):
        assert cloudpool("run", *args).stdout == python(*args).stdout != ""


def test_a_zip_file_sees_what_python_would_show_it(folder):
    with zipfile.ZipFile(folder / "program.pyz", "w") as archive:
        archive.writestr("__main__.py", SURROUNDINGS.replace("__spec__,", "__spec__.name,"))
    assert cloudpool("run", "program.pyz", "-x").stdout == python("program.pyz", "-x").stdout != ""


def test_text_on_stdin_sees_what_python_would_show_it(folder):
    args = ["-", "--help"]
    assert (
        cloudpool("run", *args, stdin=SURROUNDINGS).stdout == python(*args, stdin=SURROUNDINGS).stdout != ""
    )


def test_a_misspelt_variable_is_one_line(folder):
    done = cloudpool("run", "-c", "print(1)", CLOUDPOOL_WORKRES="2")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr == (
        "cloudpool: CLOUDPOOL_WORKRES in the environment is not a setting of cloudpool "
        "(did you mean CLOUDPOOL_WORKERS?).\n"
    )


def test_multiprocessing_is_cloudpool_in_the_script_and_in_its_children(folder):
    done = cloudpool("run", script(folder, WHO), "x")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "cloudpool cloudpool.pool",
        "child cloudpool __main__ ['x']",
        "child cloudpool __mp_main__ ['x']",
        "child cloudpool __mp_main__ ['x']",
    ]


def test_multiprocessing_is_cloudpool_in_the_modules_of_the_script(folder):
    script(folder, "import multiprocessing\nname = multiprocessing.__name__\n", "mine.py")
    done = cloudpool("run", script(folder, "import mine\nprint(mine.name)\n"))
    assert done.stdout == "cloudpool\n"


def test_pickle_and_the_stdlib_itself_keep_the_stdlibs_modules(folder):
    text = """
import pickle, sys
import multiprocessing
stdlib = sys.modules["multiprocessing.context"]
print(stdlib.__name__, pickle.loads(pickle.dumps(stdlib.ProcessError)).__module__)
print(pickle.loads(b"cmultiprocessing.pool\\nThreadPool\\n.").__module__)  # not imported by anyone before
print(sys.modules["multiprocessing.process"].BaseProcess._Popen.__globals__["__name__"])
"""
    done = cloudpool("run", script(folder, text))
    assert (done.stdout.splitlines(), done.stderr) == (
        [
            "multiprocessing.context multiprocessing.context",
            "multiprocessing.pool",
            "multiprocessing.process",
        ],
        "",
    )


def test_uninstall_puts_everything_back(folder):
    text = """
import builtins
from multiprocessing import forkserver, spawn
from cloudpool import install
def now():
    return builtins.__import__, spawn.get_preparation_data, forkserver._forkserver._preload_modules
before = now()
install.install(); install.install()
assert install.state() and all(new is not old for new, old in zip(now(), before))
install.uninstall(); install.uninstall()
assert not install.state() and all(new is old for new, old in zip(now(), before))
import multiprocessing
print(multiprocessing.__name__)
"""
    done = python("-c", text)
    assert (done.stdout, done.stderr) == ("multiprocessing\n", "")


def test_options_reach_the_script_and_its_children_as_settings(folder):
    text = """
import multiprocessing, os
def show():
    from cloudpool import settings
    chosen = settings.current()
    print(chosen.start_method, chosen.workers, chosen.progress, flush=True)
if __name__ == "__main__":
    show()
    process = multiprocessing.get_context("spawn").Process(target=show)
    process.start()
    process.join()
"""
    done = cloudpool("run", "--on", "spawn", "--workers", "3", "--progress", script(folder, text))
    assert (done.stdout, done.stderr) == ("spawn 3 True\n" * 2, "")


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.exit(3)",
        "import sys; sys.exit('goodbye')",
        "import sys; sys.exit()",
        "def f():\n    1 / 0\nf()",
        "import no_such_module",
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('x') from e",
        "this is no Python",
        "import os; os._exit(9)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import atexit; atexit.register(print, 'last words'); raise RuntimeError",
        "import sys; sys.excepthook = lambda *a: print('mine', a[2].tb_frame.f_code.co_name); raise RuntimeError",
    ],
)
def test_a_script_ends_as_under_python(folder, text):
    path = script(folder, text)
    ours, theirs = cloudpool("run", path), python(path)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_a_script_interrupted_ends_by_the_signal(folder):
    path = script(folder, "raise KeyboardInterrupt")
    ours, theirs = cloudpool("run", path), python(path)
    assert ours.returncode == theirs.returncode == -signal.SIGINT
    assert ours.stderr == theirs.stderr


def test_a_missing_module_is_said_as_python_says_it(folder):
    ours, theirs = cloudpool("run", "-m", "no_such_module"), python("-m", "no_such_module")
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)


def test_an_error_of_cloudpools_in_a_script_is_its_message_and_place_and_a_traceback_only_under_debug(folder):
    path = script(folder, "from cloudpool.errors import ServerError\nraise ServerError('no server here')\n")
    done = cloudpool("run", path)
    assert (done.returncode, done.stderr) == (
        1,
        f'cloudpool: no server here\n(File "{path}", line 2; run --debug shows the traceback.)\n',
    )
    done = cloudpool("run", "--debug", path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f'Traceback (most recent call last):\n  File "{path}", line 2, in <module>\n'
    )


# Needs the whole package: the embedded server, queues and the start methods.
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_program_of_the_stdlib_runs_unchanged_with_its_queue_in_the_store(folder, method):
    text = """
import multiprocessing

def square(x, queue):
    queue.put((multiprocessing.get_start_method(), type(queue).__module__.partition(".")[0], x * x))

if __name__ == "__main__":
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=square, args=(7, queue))
    process.start()
    print(queue.get())
    process.join()
"""
    done = cloudpool("run", "--on", method, script(folder, text))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{(method, 'cloudpool', 49)}\n"
