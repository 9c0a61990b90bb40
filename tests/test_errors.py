"""The error classes: their tree, their messages, and that they travel between processes."""

import concurrent.futures.process
import json
import pickle
import re
import subprocess
import sys

import pytest

from cloudpool import errors

FLAT = [
    errors.SettingsError,
    errors.ServerError,
    errors.ServerOutOfMemory,
    errors.SessionLostError,
    errors.WorkerLostError,
]


@pytest.mark.parametrize("cls", FLAT)
def test_every_error_is_a_cloudpool_error_with_its_docstring_as_default_message(cls):
    error = cls()
    assert isinstance(error, errors.CloudpoolError)
    assert str(error) == cls.__doc__
    assert "\n" not in str(error)


@pytest.mark.parametrize("cls", FLAT)
def test_a_message_given_replaces_the_default_one(cls):
    assert str(cls("the server is on fire")) == "the server is on fire"


@pytest.mark.parametrize(
    "error", [*(cls("why", 3) for cls in FLAT), errors.MissingExtraError("dill", "Thus")]
)
def test_errors_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.args == error.args
    assert str(copy) == str(error)


def test_programs_that_catch_the_stdlibs_classes_catch_ours():
    assert issubclass(errors.SettingsError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)
    assert issubclass(errors.WorkerLostError, concurrent.futures.process.BrokenProcessPool)
    assert issubclass(errors.WorkerLostError, RuntimeError)


def test_a_missing_extra_says_what_to_install():
    error = errors.MissingExtraError("dill", "serializer = dill")
    assert error.extra == "dill"
    said = r"serializer = dill needs packages that are not installed: pip install (-e )?'\S*\[dill\]'"
    assert re.fullmatch(said, str(error))


@pytest.mark.parametrize("editable", [True, False])
def test_a_missing_extra_is_installed_from_where_cloudpool_came_from(tmp_path, monkeypatch, editable):
    """On an index the name is another project's."""
    about = tmp_path / "cloudpool-9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: cloudpool\nVersion: 9\n")
    source = {"url": "file:///home/me/my%20cloudpool", "dir_info": {"editable": True} if editable else {}}
    (about / "direct_url.json").write_text(json.dumps(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    command = f"pip install {'-e ' if editable else ''}'/home/me/my cloudpool[s3]'"
    assert str(errors.MissingExtraError("s3")).endswith(command)


def test_a_lost_worker_unpickles_in_a_process_that_has_not_seen_the_class():
    pickled = pickle.dumps(errors.WorkerLostError("task 3 killed its worker"))
    program = f"import pickle; print(repr(pickle.loads({pickled!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "WorkerLostError('task 3 killed its worker')"


def test_importing_the_errors_does_not_import_concurrent_futures():
    program = "import cloudpool.errors, sys; print('concurrent.futures.process' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_name_that_is_no_error_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'NoSuchError'"):
        errors.NoSuchError  # noqa: B018 - to look it up is the test
