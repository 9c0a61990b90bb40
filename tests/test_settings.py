"""Settings: what wins over what, what is refused and how it is said, and what passwords never show."""

import os
import pickle
import re
import subprocess
import sys
import warnings

import pytest

from cloudpool import settings
from cloudpool.errors import SettingsError

URL_FORMS = [
    "redis://localhost",
    "redis://localhost:6380/2",
    "redis://:secret@10.0.0.1:6379",
    "rediss://user:secret@cache.example.com:6380/0?ssl_cert_reqs=none",
    "redis://[::1]:6379",
    "unix:///run/redis.sock",
    "unix://user:secret@/run/redis.sock?db=1",
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder of the test's own, where the user's file may be put."""
    home = tmp_path / "home"
    (home / ".config" / "cloudpool").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def project(tmp_path):
    """The folder of a script, a level below that of the project's file."""
    folder = tmp_path / "project" / "scripts"
    folder.mkdir(parents=True)
    return folder


def read(folder="/", arguments=None, **environ):
    return settings.read(arguments or {}, environ, str(folder))


def refused(folder="/", arguments=None, **environ):
    with pytest.raises(SettingsError) as caught:
        read(folder, arguments, **environ)
    message = str(caught.value)
    assert message.count("\n") <= 2
    return message


def test_without_anything_given_all_values_are_the_defaults(project):
    chosen = read(project)
    assert (chosen.start_method, chosen.redis_url, chosen.workers) == (None, None, None)
    assert (chosen.lease_s, chosen.retries, chosen.serializer) == (15.0, 2, "cloudpickle")
    assert (chosen.progress, chosen.serializer, chosen.debug, chosen.allow_plain_tcp) == (
        False,
        "cloudpickle",
        False,
        False,
    )
    assert {chosen.source(name) for name in settings.NAMES} == {"default"}


def test_each_place_wins_over_those_below_it_and_is_remembered(home, project):
    user = home / ".config" / "cloudpool" / "config.toml"
    user.write_text("workers = 1\nretries = 1\nlease_s = 1\nserializer = 'dill'\n")
    file = project.parent / "cloudpool.toml"
    file.write_text("workers = 2\nretries = 2\nlease_s = 2.5\n")
    chosen = read(project, {"workers": 4}, CLOUDPOOL_WORKERS="3", CLOUDPOOL_RETRIES="3")
    assert (chosen.workers, chosen.source("workers")) == (4, "argument")
    assert (chosen.retries, chosen.source("retries")) == (3, "environment CLOUDPOOL_RETRIES")
    assert (chosen.lease_s, chosen.source("lease_s")) == (2.5, str(file))
    assert (chosen.serializer, chosen.source("serializer")) == ("dill", str(user))


def test_a_table_in_pyproject_is_a_project_file(project):
    file = project.parent / "pyproject.toml"
    file.write_text("[project]\nname = 'x'\n[tool.cloudpool]\nretries = 5\n")
    chosen = read(project)
    assert (chosen.retries, chosen.source("retries")) == (5, f"{file} [tool.cloudpool]")


def test_a_pyproject_without_the_table_does_not_end_the_search(project):
    (project / "pyproject.toml").write_text("[project]\ndependencies = ['cloudpool']\n")
    (project.parent / "cloudpool.toml").write_text("retries = 7\n")
    assert read(project).retries == 7


def test_the_nearest_project_file_is_the_only_one_read(project):
    (project / "cloudpool.toml").write_text("retries = 7\n")
    (project.parent / "cloudpool.toml").write_text("workers = 8\n")
    chosen = read(project)
    assert (chosen.retries, chosen.workers) == (7, None)


def test_an_empty_variable_and_an_argument_of_none_are_not_given():
    chosen = read("/", {"workers": None}, CLOUDPOOL_WORKERS="")
    assert chosen.source("workers") == "default"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("TRUE", True), ("on", True), ("yes", True), ("0", False), ("off", False)],
)
def test_switches_have_the_usual_words(text, value):
    assert read(CLOUDPOOL_PROGRESS=text).progress is value


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CLOUDPOOL_WORKERS", "many", "many is not a whole number of at least 1"),
        ("CLOUDPOOL_WORKERS", "0", "is not a whole number of at least 1"),
        ("CLOUDPOOL_RETRIES", "-1", "is not a whole number of at least 0"),
        ("CLOUDPOOL_LEASE_S", "0", "is not a number of seconds above 0"),
        ("CLOUDPOOL_LEASE_S", "nan", "is not a number of seconds above 0"),
        ("CLOUDPOOL_PROGRESS", "maybe", "is not one of 1, 0, true, false"),
        ("CLOUDPOOL_SERIALIZER", "dil", r"is none of cloudpickle, dill \(did you mean dill\?\)"),
        (
            "CLOUDPOOL_START_METHOD",
            "spwan",
            r"is none of fork, spawn, forkserver, docker, kubernetes.* \(did you mean spawn\?\)",
        ),
    ],
)
def test_a_bad_value_is_an_error_that_names_its_place(variable, value, said):
    message = refused(**{variable: value})
    assert message.startswith(f"environment {variable}: ")
    assert re.search(said, message)


def test_a_bad_value_is_an_error_even_where_another_place_overrides_it(project):
    file = project / "cloudpool.toml"
    file.write_text("workers = 'four'\n")
    assert refused(project, CLOUDPOOL_WORKERS="4") == (
        f"{file}: workers = four is not a whole number of at least 1."
    )


@pytest.mark.parametrize(
    "content", ["workers = true", "workers = 2.5", "lease_s = false", "progress = 2", "serializer = 3"]
)
def test_a_value_of_the_wrong_toml_type_is_an_error(project, content):
    (project / "cloudpool.toml").write_text(content)
    assert "cloudpool.toml" in refused(project)


def test_an_unknown_key_in_a_file_is_an_error_with_the_nearest_name(project):
    file = project / "cloudpool.toml"
    file.write_text("worker = 4\n")
    assert refused(project) == f"{file}: worker is not a setting of cloudpool (did you mean workers?)."


def test_an_unknown_argument_is_an_error():
    assert "argument: colour is not a setting" in refused(arguments={"colour": "red"})


def test_a_file_that_is_not_toml_is_an_error_that_names_the_line(project):
    (project / "cloudpool.toml").write_text("retries = 1\nworkers == 2\n")
    assert re.search(r"cloudpool\.toml: is not TOML: .*line 2", refused(project))


def test_an_unknown_variable_is_one_warning_with_the_nearest_name():
    with pytest.warns(UserWarning, match="CLOUDPOOL_WORKER") as caught:
        read(CLOUDPOOL_WORKER="4")
    assert [str(warning.message) for warning in caught] == [
        "CLOUDPOOL_WORKER in the environment is not a setting of cloudpool (did you mean CLOUDPOOL_WORKERS?)."
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_that_a_stranger_put_above_the_script_is_not_read(project):
    file = project.parent / "cloudpool.toml"
    file.write_text("redis_url = 'redis://evil.example.com'\n")
    os.chown(file, 12345, -1)
    with pytest.warns(
        UserWarning, match=re.escape(f"{file} is ignored: it belongs to another user (uid 12345)")
    ):
        assert read(project).redis_url is None


@pytest.mark.parametrize("url", URL_FORMS)
def test_all_forms_of_server_urls_are_taken(url):
    assert read(CLOUDPOOL_REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://:hunter2@localhost",
        "redis://:hunter2",
        "redis://:hunter2@",
        "redis://:hun#ter2@localhost",
        "redis://:hunter2/hunter2@localhost",
        "redis://:hunter2?hunter2@localhost",
        "redis://:hunter2@localhost:port",
        "redis://:hunter2@localhost:99999",
        "redis://localhost/zero?password=hunter2",
        "redis://localhost/zero?password=hun@hunter2",
        "hunter:hunter2@localhost",
        "unix://:hunter2@",
    ],
)
def test_a_wrong_url_is_an_error_that_says_the_forms_and_not_the_password(url):
    message = refused(CLOUDPOOL_REDIS_URL=url)
    assert "environment CLOUDPOOL_REDIS_URL: redis_url = " in message
    for form in ("redis://[[user]:password@]host[:port][/db]", "rediss://", "unix://"):
        assert form in message
    assert "hunter2" not in message
    assert "ter2" not in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis://:secret@host:1/2", "redis://:***@host:1/2"),
        ("redis://user:secret@host", "redis://user:***@host"),
        ("redis://secret@host", "redis://***@host"),
        ("unix://user:secret@/run/redis.sock", "unix://user:***@/run/redis.sock"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("redis://user:s@e:c/ret@host", "redis://user:***@host"),
    ],
)
def test_a_redacted_url_has_all_but_the_password(url, shown):
    assert settings.redacted(url) == shown


def test_settings_show_no_password():
    chosen = read(CLOUDPOOL_REDIS_URL="redis://user:secret@host")
    assert "secret" not in repr(chosen)
    assert chosen.shown("redis_url") == "redis://user:***@host"


def test_settings_cannot_be_changed():
    chosen = read()
    with pytest.raises(AttributeError, match="cannot set 'workers'"):
        chosen.workers = 3
    with pytest.raises(AttributeError, match="cannot delete 'workers'"):
        del chosen.workers


def test_settings_travel_to_other_processes():
    chosen = pickle.loads(pickle.dumps(read(CLOUDPOOL_WORKERS="3")))
    assert (chosen.workers, chosen.source("workers")) == (3, "environment CLOUDPOOL_WORKERS")


def test_each_setting_has_a_type():
    assert set(settings.NAMES) <= set(settings.Settings.__annotations__)


def test_the_current_settings_are_read_once(monkeypatch):
    monkeypatch.setattr(settings, "_current", None)
    monkeypatch.setenv("CLOUDPOOL_RETRIES", "4")
    first = settings.current()
    monkeypatch.setenv("CLOUDPOOL_RETRIES", "5")
    assert settings.current() is first
    assert settings.reload({"workers": 2}).retries == 5
    assert settings.current().workers == 2


def test_the_search_for_a_file_begins_at_the_script_not_at_the_current_folder(project, tmp_path):
    (project.parent / "cloudpool.toml").write_text("retries = 9\n")
    script = project / "script.py"
    script.write_text("from cloudpool import settings; print(settings.current().retries)\n")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "9"


def test_reading_the_environment_imports_no_parsers():
    program = (
        "import sys; before = set(sys.modules)\n"
        "from cloudpool import settings; settings.current()\n"
        "print({'tomllib', 'difflib', 'urllib.parse', 'dataclasses'} & (set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd="/",
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_a_warning_points_at_the_line_that_the_user_wrote():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(CLOUDPOOL_NOSUCH="1")
    assert caught[0].filename == __file__


def _environment():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDPOOL_")}
    return {**plain, "PYTHONPATH": path}


def test_an_engines_settings_are_a_table_of_a_file_or_json_in_the_environment(project):
    (project / "cloudpool.toml").write_text(
        "[kubernetes]\nimage = 'a/b:1'\ncpu = 2\nnode_selector = { disk = 'ssd' }\ntolerations = [{ key = 'x' }]\n"
    )
    chosen = read(project, CLOUDPOOL_KUBERNETES_LABELS='{"team": "x"}', CLOUDPOOL_KUBERNETES_MEMORY="512Mi")
    assert (chosen.kubernetes_image, chosen.kubernetes_cpu, chosen.kubernetes_memory) == (
        "a/b:1",
        "2",
        "512Mi",
    )
    assert (chosen.kubernetes_node_selector, chosen.kubernetes_tolerations) == (
        {"disk": "ssd"},
        [{"key": "x"}],
    )
    assert chosen.kubernetes_labels == {"team": "x"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MEMORY", "2GB", "is not a quantity of Kubernetes, such as 2, 500m or 4Gi"),
        ("CPU", "-1", "is not a quantity"),
        ("CPU", "nan", "is not a quantity"),
        ("LABELS", "team=x", "is not a table of texts (in the environment: JSON)"),
        ("NODE_SELECTOR", '{"a": 1}', "is not a table of texts"),
        ("TOLERATIONS", "{}", "is not a list of tables"),
        ("POD_PATCH", "[]", "is not a table (in the environment: JSON)"),
    ],
)
def test_what_a_cluster_would_refuse_is_refused_here(name, value, said):
    assert said in refused(**{f"CLOUDPOOL_KUBERNETES_{name}": value})
