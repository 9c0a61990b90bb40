"""How the tests of this folder run a program on the stdlib and on cloudpool.

TEST_ON=docker, or kubernetes, has its processes in containers or pods, as the environment's settings say.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

# What a program is told that has been sent elsewhere and starts processes here by its own choice.
STAYS = re.compile(r"^cloudpool: the program itself names .*\n", flags=re.MULTILINE)
# And one whose pool ends its workers wherever they are, in the middle of what a lock protects, of which the stdlib is silent.
PASSED_ON = re.compile(
    r"^.*RuntimeWarning: Process \d+ died while it held .*\nWhat it protects .*\n(  .*\n)?",
    flags=re.MULTILINE,
)
ROOT = Path(__file__).resolve().parents[2]
FAR = os.environ.get("TEST_ON", "")
TIMEOUT_S = 240 if FAR else 60
SETTINGS = {name: value for name, value in os.environ.items() if name.startswith("CLOUDPOOL_") and FAR}


def python(args, folder, **environ):
    """A Python program in `folder`, without this machine's settings."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = ("CLOUDPOOL_", "PYTEST_ADDOPTS")
    others = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=folder,
        env={**others, **SETTINGS, "PYTHONPATH": path, "HOME": str(folder), "LC_ALL": "C.UTF-8", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def assert_same_on_cloudpool(
    server, args, folder, *, varies=r"$^", ordered=True, kills=False, on_cloudpool=None
):
    """Run on the stdlib, then by `python -m cloudpool run` (or as `on_cloudpool` says): the same, and the server was used.

    `varies` is what may differ in stdout and stderr: a time. The lines' order counts unless `ordered` is false. One that
    `kills` its processes may hear of a lock that one of them held.
    """
    expected = python(args, folder)
    before = connections(server) + 1
    began = time.time()
    where = {"CLOUDPOOL_START_METHOD": FAR} if FAR else {"CLOUDPOOL_REDIS_URL": server.url}
    done = python(on_cloudpool or ["-m", "cloudpool", "run", *args], folder, **where)
    print(expected.stdout, expected.stderr, "-- on cloudpool --", done.stdout, done.stderr, sep="\n")
    stays = FAR and STAYS.search(done.stderr)
    done.stderr = STAYS.sub("", done.stderr)
    if kills:
        done.stderr = PASSED_ON.sub("", done.stderr)
    assert seen(done, varies, ordered) == seen(expected, varies, ordered), "not the same: both are below"
    is_used = (stays or hosts_made(since=began)) if FAR else connections(server) > before
    assert is_used, "cloudpool was not used"
    return expected


def seen(done, varies, ordered):
    texts = [re.sub(varies, "*", text) for text in (done.stdout, done.stderr)]
    return done.returncode, *(text if ordered else "\n".join(sorted(text.splitlines())) for text in texts)


def connections(server):
    """How many connections the server has seen."""
    connection = server.connect()
    said = connection.call("INFO", "stats").decode()
    connection.close()
    return int(re.search(r"total_connections_received:(\d+)", said)[1])


def hosts_made(since):
    """How many containers or pods of cloudpool's the engine has made since then."""
    if FAR == "kubernetes":
        import kubernetes

        kubernetes.config.load_config()
        namespace = os.environ.get("CLOUDPOOL_KUBERNETES_NAMESPACE", "default")
        seen = kubernetes.client.CoreV1Api().list_namespaced_event(namespace, field_selector="reason=Created")
        return sum(
            1
            for event in seen.items
            if event.involved_object.name.startswith("cloudpool-")
            and event.last_timestamp.timestamp() > since - 1  # it is in whole seconds
        )
    import docker

    client = docker.from_env()
    filters = {"event": "create", "label": "cloudpool.session"}
    try:
        return sum(1 for _ in client.events(since=since, until=time.time(), decode=True, filters=filters))
    finally:
        client.close()
