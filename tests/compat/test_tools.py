"""Command-line tools that work in parallel, on small projects, unedited: as with the stdlib."""

import pytest
from running import FAR, assert_same_on_cloudpool, python


@pytest.fixture
def project(tmp_path):
    """project({name: text}): a folder with these files."""

    def project(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return project


UNTIDY = {
    f"untidy/module_{n}.py": f"import os,sys\ndef  f(x) :\n    unused = {n}\n    return undefined\n"
    for n in range(6)
}
UNTIDY["untidy/__init__.py"] = ""


def test_sphinx_j(project, tcp_server):
    pytest.importorskip("sphinx")
    pages = {
        f"page{n}.rst": f"Page {n}\n======\n\n.. _label-{n}:\n\nSection\n-------\n\nSee :ref:`label-{(n + 1) % 8}`.\n"
        for n in range(8)
    }
    index = "Index\n=====\n\n.. toctree::\n   :glob:\n\n   page*\n"
    folder = project({**pages, "index.rst": index, "conf.py": "project = 'small'\nhtml_theme = 'basic'\n"})
    arguments = ["-m", "sphinx", "-j2", "-E", "-a", "-q", "-W", "-b", "html", ".", "out"]
    assert_same_on_cloudpool(tcp_server, arguments, folder)
    assert 'href="page1.html#label-1"' in (folder / "out/page0.html").read_text()


def test_pylint_j(project, tcp_server):
    pytest.importorskip("pylint")
    folder = project(UNTIDY)
    said = assert_same_on_cloudpool(tcp_server, ["-m", "pylint", "-j2", "--score=n", "untidy"], folder).stdout
    assert said.count("undefined-variable") == 6


def test_flake8_j(project, tcp_server):
    pytest.importorskip("flake8")
    folder = project(UNTIDY)
    said = assert_same_on_cloudpool(tcp_server, ["-m", "flake8", "-j2", "untidy"], folder).stdout
    assert said.count("F821") == 6


@pytest.mark.skipif(bool(FAR), reason="it gives its processes absolute paths of this machine")
def test_black_of_many_files(project, tcp_server):
    pytest.importorskip("black")
    folder = project(UNTIDY)
    arguments = ["-m", "black", "--check", "--workers", "2", "untidy"]
    expected = assert_same_on_cloudpool(tcp_server, arguments, folder, ordered=False)
    assert expected.returncode == 1


def test_yapf_parallel(project, tcp_server):
    pytest.importorskip("yapf")
    folder = project(UNTIDY)
    arguments = ["-m", "yapf", "--parallel", "--diff", "--recursive", "untidy"]
    expected = assert_same_on_cloudpool(tcp_server, arguments, folder, ordered=False)
    assert expected.stdout.count("(reformatted)") == 6


DJANGO = {
    "settings.py": """
SECRET_KEY = "s"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "app"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
""",
    "manage.py": """
import os
import sys

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
""",
    "app/__init__.py": "",
    "app/tests.py": """
import multiprocessing
from django.contrib.auth.models import User
from django.test import TestCase

class Base:
    def test_create(self):
        User.objects.create(username=type(self).__name__)
        self.assertEqual(User.objects.count(), 1)

    def test_runs_in_a_worker(self):
        self.assertNotEqual(multiprocessing.current_process().name, "MainProcess")

class A(Base, TestCase): pass
class B(Base, TestCase): pass
class C(Base, TestCase):
    def test_fails(self):
        self.assertEqual(User.objects.count(), 5)
""",
}


@pytest.mark.skipif(bool(FAR), reason="Django clones databases for fork and spawn only")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_django_test_runner_in_parallel(project, tcp_server, method):
    pytest.importorskip("django")
    folder = project(DJANGO)
    arguments = ["manage.py", "test", "--parallel", "2", "-v", "0"]
    if method == "spawn":
        chosen = "if __name__ == '__main__':\n    import multiprocessing\n    multiprocessing.set_start_method('spawn')\n"
        (folder / "manage.py").write_text(chosen + DJANGO["manage.py"])
    expected = assert_same_on_cloudpool(tcp_server, arguments, folder, varies=r"in [\d.]+s")
    assert "0 != 5" in expected.stderr
    assert expected.returncode == 1


TESTS = """
import multiprocessing
import pytest

def square(x):
    return x * x

def put(queue, lock):
    with lock:
        queue.put("put")

@pytest.fixture(scope="module")
def pool():
    with multiprocessing.Pool(2) as pool:
        yield pool

@pytest.mark.parametrize("n", range(4))
def test_pool(pool, n):
    assert pool.map(square, range(n)) == [x * x for x in range(n)]

@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process(method):
    context = multiprocessing.get_context(method)
    queue, lock = context.Queue(), context.Lock()
    process = context.Process(target=put, args=(queue, lock))
    process.start()
    assert queue.get(timeout=60) == "put"
    process.join()

def test_fails(pool):
    result = pool.apply(square, (3,))
    assert result == 8
"""


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n2"]], ids=["pytest", "xdist"])
def test_pytest_of_tests_that_use_multiprocessing(project, tcp_server, workers):
    if workers:
        pytest.importorskip("xdist")
    # xdist's workers are interpreters of their own, which `run` does not reach: a conftest does.
    conftest = "import os\nif {'CLOUDPOOL_REDIS_URL', 'CLOUDPOOL_START_METHOD'} & set(os.environ):\n    import cloudpool\n    cloudpool.install()\n"
    folder = project({"test_mp.py": TESTS, "conftest.py": conftest if workers else ""})
    if workers:
        # Since 3.12 a fork beside threads warns, once a process: how often is a matter of which worker had which test.
        workers = [*workers, "-W", "ignore::DeprecationWarning"]
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", *workers, "test_mp.py"]
    expected = assert_same_on_cloudpool(
        tcp_server, arguments, folder, varies=r"in [\d.]+s|\[gw\d\]|pid=\d+|(?m:^[.F ]+\[100%\]$)"
    )
    assert "1 failed, 6 passed" in expected.stdout


MEASURED = """
import multiprocessing
import sys

def odd_or_even(n):
    if n % 2:
        return "odd"
    return "even"

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    pool = multiprocessing.Pool(2)
    print(pool.map(odd_or_even, range(6)))
    pool.close()
    pool.join()
    process = multiprocessing.Process(target=odd_or_even, args=(1,))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_coverage_sees_what_processes_run(project, method):
    pytest.importorskip("coverage")
    rc = "[run]\nconcurrency = multiprocessing\nparallel = true\ninclude = program.py\n"
    folder = project({"program.py": MEASURED, ".coveragerc": rc})
    for how in ([], ["-m", "cloudpool", "run"]):
        done = python([*how, "-m", "coverage", "run", "program.py", method], folder)
        assert (done.returncode, done.stdout) == (0, "['even', 'odd', 'even', 'odd', 'even', 'odd']\n"), (
            done.stderr
        )
        python(["-m", "coverage", "combine"], folder)
        report = python(["-m", "coverage", "report", "-m"], folder).stdout
        assert "100%" in report, report
        (folder / ".coverage").unlink()
