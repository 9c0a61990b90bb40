"""Hosts as pods of a real cluster. Their command is the tests' own: what a host does is looked at elsewhere."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Admin, until
from proxy import Proxy
from urllib3 import HTTPResponse

from cloudpool.errors import RunnerError
from cloudpool.runners.kubernetes import KubernetesRunner
from cloudpool.runners.runner import Order
from cloudpool.settings import Settings

WAITS = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"
SAYS = "import os, sys; print(open(sys.argv[2]).read(), int(sys.argv[4]) + int(os.environ['JOB_COMPLETION_INDEX'])); exit(3)"
EATS = "b'x' * (256 << 20)"

Make = Callable[..., KubernetesRunner]


@pytest.fixture
def make(admin: Admin, chosen: Callable[..., Settings], session_id: str) -> Iterator[Make]:
    """make(program, **settings): a runner whose hosts run that program. It is closed at the end, and leaves nothing."""
    made = []

    def make(program: str = WAITS, **more: str) -> KubernetesRunner:
        runner = KubernetesRunner(Order(session_id, chosen(**more), b"the card", None))
        runner.command = ("python3", "-c", program)  # type: ignore[assignment]
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.close()
    until(lambda: not admin.left(session_id))


def running(admin: Admin, session_id: str) -> list[str]:
    selector = f"cloudpool.dev/session={session_id}"
    pods = admin.core.list_namespaced_pod(admin.namespace, label_selector=selector).items
    return sorted(pod.metadata.name for pod in pods if pod.status.phase == "Running")


def refusal(make: Make, **more: str) -> str:
    """What start() says when no host can come."""
    with pytest.raises(RunnerError) as caught:
        make(**more).start(range(3))
    assert 1 <= str(caught.value).count("\n") + 1 <= 3
    return str(caught.value)


# -- the watch ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not hasattr(HTTPResponse, "shutdown"), reason="a urllib3 whose responses cannot be shut down"
)
def test_a_watch_whose_socket_is_closed_in_the_midst_of_its_close(make, monkeypatch):
    """As by its reader, which finds nonsense: the ssl module gives up TLS before it shuts the socket down."""
    shutdown, closed = ssl.SSLSocket.shutdown, []

    def interrupted(sock: ssl.SSLSocket, how: int) -> None:
        shutdown(sock, how)
        closed.append(sock)
        socket.close(sock.detach())
        shutdown(sock, how)

    monkeypatch.setattr(ssl.SSLSocket, "shutdown", interrupted)
    watch = make()._watch
    until(lambda: watch._response)
    watch.close()
    assert closed
    assert not watch._thread.is_alive()


# -- what hosts are, and how they end ---------------------------------------------------------------------------------


def test_twenty_hosts_are_one_job_and_each_has_its_number_and_the_card(admin, make, session_id):
    runner = make(SAYS)
    runner.start(range(7, 27))
    assert [name for name in admin.left(session_id) if name.endswith("-7")] == [
        f"cloudpool-{session_id}-7"
    ] * 2
    states = until(lambda: len(states := runner.states()) == 20 and states, 110)
    assert states == {n: f"it ended with status 3: the card {n}" for n in range(7, 27)}


def test_a_host_that_takes_too_much_memory_is_told_of_with_its_limit(make):
    runner = make(EATS)
    runner.start(range(1))
    assert until(runner.states) == {
        0: "it was killed for want of memory: it may use 64Mi (kubernetes_memory)"
    }


def test_a_deleted_pod_an_evicted_pod_and_a_deadline_are_told_apart(admin, make, session_id):
    runner = make(deadline_s="25")
    runner.start(range(3))
    deleted, evicted, _ = until(lambda: len(names := running(admin, session_id)) == 3 and names)
    admin.core.delete_namespaced_pod(deleted, admin.namespace)
    admin.core.create_namespaced_pod_eviction(evicted, admin.namespace, {"metadata": {"name": evicted}})
    states = until(lambda: len(states := runner.states()) == 3 and states)
    assert states[0] == "its pod was deleted"
    assert "it was evicted" in states[1]
    assert states[2] == "its deadline of 25 s is over (kubernetes_deadline_s)"


def test_some_hosts_are_stopped_and_the_others_stay_until_the_last_takes_the_job_along(
    admin, make, session_id
):
    runner = make()
    runner.start(range(10, 13))
    names = until(lambda: len(names := running(admin, session_id)) == 3 and names)
    runner.stop([10, 12, 99])
    until(lambda: runner.states().keys() == {10, 12})
    assert running(admin, session_id) == names[1:2]
    runner.stop([11])
    until(lambda: not admin.left(session_id))
    assert runner.states().keys() == {10, 11, 12}


def test_close_takes_all_away_and_may_be_called_twice(admin, make, session_id):
    runner = make()
    runner.start(range(2))
    runner.start(range(2, 4))
    until(lambda: len(running(admin, session_id)) == 4)
    begin = time.monotonic()
    runner.close()
    runner.close()
    assert time.monotonic() - begin < 10
    until(lambda: not admin.left(session_id))


def test_the_card_is_in_the_secret_alone(admin, make, session_id):
    make().start(range(1))
    selector = f"cloudpool.dev/session={session_id}"
    jobs = admin.batch.list_namespaced_job(
        admin.namespace, label_selector=selector, _preload_content=False
    ).data
    assert b"the card" not in jobs
    (secret,) = admin.core.list_namespaced_secret(admin.namespace, label_selector=selector).items
    assert [owner.kind for owner in secret.metadata.owner_references] == ["Job"]


# -- why hosts do not come -------------------------------------------------------------------------------------------------


def said(runner: KubernetesRunner, begin: str) -> str:
    """What waiting() says, when it has come to a line with that beginning; within ten seconds."""
    words = until(lambda: (words := runner.waiting()).startswith(begin) and words, 10)
    assert "\n" not in words
    return words


def test_pods_that_no_node_has_room_for_are_explained(make):
    runner = make(cpu="1000")
    runner.start(range(2))
    words = said(runner, "2 pods are pending: no node has room for it: 0/")
    assert "Insufficient cpu" in words
    assert words.endswith("(a host asks for cpu 1000, memory 64Mi)")


def test_an_image_that_is_not_there_is_explained(make):
    runner = make(
        image="absent.invalid/nothing:1",
        pod_patch='{"containers": [{"name": "cloudpool", "imagePullPolicy": "Never"}]}',
    )
    runner.start(range(1))
    words = said(
        runner, "1 pod is pending: its node cannot get the image absent.invalid/nothing:1: make it (python -m"
    )
    assert "ErrImageNeverPull" in words


@pytest.fixture
def quota(admin: Admin) -> Iterator[Callable[[int], None]]:
    """quota(n): no more than n pods in the namespace."""

    def quota(pods: int) -> None:
        admin.core.create_namespaced_resource_quota(
            admin.namespace, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": str(pods)}}}
        )
        # It counts only once its controller has looked at it.
        until(lambda: admin.core.read_namespaced_resource_quota("few", admin.namespace).status.used)

    until(lambda: not admin.core.list_namespaced_pod(admin.namespace).items)
    yield quota
    admin.core.delete_namespaced_resource_quota("few", admin.namespace)


def test_hosts_that_a_quota_holds_back_are_explained_and_the_others_come(admin, make, quota, session_id):
    quota(1)
    runner = make()
    runner.start(range(3))
    words = said(runner, "2 of 3 pods are not there: exceeded quota: few")
    assert "(ask for less (kubernetes_hosts" in words
    until(lambda: len(running(admin, session_id)) == 1)


def test_a_quota_without_any_room_is_an_error(make, quota):
    quota(0)
    assert "exceeded quota: few" in refusal(make)


def test_what_the_namespace_forbids_is_an_error_that_names_its_setting(make):
    patch = '{"containers": [{"name": "cloudpool", "securityContext": {"privileged": true, "allowPrivilegeEscalation": true}}]}'
    words = refusal(make, pod_patch=patch)
    assert 'violates PodSecurity "restricted' in words
    assert "kubernetes_pod_patch" in words


def test_a_missing_service_account_or_priority_class_is_an_error_that_names_its_setting(make):
    assert "kubernetes_service_account" in refusal(make, service_account="nobody")
    assert "kubernetes_priority_class" in refusal(make, priority_class="none")


# -- who may, and where -----------------------------------------------------------------------------------------------------


def test_a_missing_right_is_named_with_the_file_that_gives_it(admin, make, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", admin.kubeconfig(tmp_path / "none", "default"))
    words = refusal(make)
    assert words.startswith(f"this user may not list pods in the namespace {admin.namespace} of ")
    assert words.endswith(f"kubectl -n {admin.namespace} apply -f docs/kubernetes/rbac.yaml")


def test_the_rights_are_those_of_the_file_and_no_others():
    import yaml

    from cloudpool.deploy import doctor

    file = Path(__file__).parents[2] / "docs" / "kubernetes" / "rbac.yaml"
    (role,) = [found for found in yaml.safe_load_all(file.read_text()) if found["kind"] == "Role"]
    given = {
        (group, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for name in rule["resources"]
        for verb in rule["verbs"]
    }
    used = {
        (group, f"{name}/{part}" if part else name, verb)
        for group, name, part, verbs in doctor.RIGHTS
        for verb in verbs
    }
    assert given == used


def test_a_namespace_that_is_not_there_is_an_error(admin, make, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "admin"))
    (tmp_path / "admin").write_text(_admins_kubeconfig(admin))
    words = refusal(make, namespace="nowhere")
    assert "has no namespace nowhere" in words
    assert "kubernetes_namespace" in words


def _admins_kubeconfig(admin: Admin) -> str:
    chosen = admin.client.configuration
    user = {"client-certificate": chosen.cert_file, "client-key": chosen.key_file}
    if token := chosen.api_key.get("authorization"):
        user = {"token": token.removeprefix("Bearer ")}
    return json.dumps(
        {
            "clusters": [
                {"name": "c", "cluster": {"server": chosen.host, "certificate-authority": chosen.ssl_ca_cert}}
            ],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


def test_a_token_that_the_api_does_not_know_is_an_error(make, kubeconfig):
    import yaml

    path = Path(kubeconfig)
    content = yaml.safe_load(path.read_text())
    content["users"][0]["user"]["token"] += "x"
    path.write_text(yaml.safe_dump(content))
    assert "log in again" in refusal(make)


def test_no_kubeconfig_another_context_and_an_api_that_does_not_answer_are_errors(
    make, tmp_path, kubeconfig, monkeypatch
):
    assert "its contexts are x; not y" in refusal(make, context="y")
    path = Path(kubeconfig)
    path.write_text(path.read_text().replace("server: https://", "server: https://127.0.0.1:1/"))
    assert "cannot be reached" in refusal(make)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert "Set KUBECONFIG" in refusal(make)


# -- an API that is away --------------------------------------------------------------------------------------------------


def test_while_the_api_is_away_hosts_work_on_and_what_was_asked_for_is_done_when_it_is_back(
    admin: Admin, proxy: Proxy, make: Make, session_id: str
) -> None:
    runner = make()
    runner.start(range(3))
    names = until(lambda: len(names := running(admin, session_id)) == 3 and names)
    proxy.refuse()
    proxy.cut_all()
    until(lambda: "cannot be reached" in runner.waiting())
    runner.stop([1])
    assert runner.states() == {}
    admin.core.delete_namespaced_pod(names[2], admin.namespace)
    assert runner.states() == {}
    assert names[0] in running(admin, session_id)
    proxy.accept()
    until(lambda: runner.states().keys() == {1, 2})
    assert until(lambda: running(admin, session_id)) == names[:1]


def test_hosts_that_are_asked_for_meanwhile_come_when_it_is_back(proxy, make, admin, session_id):
    runner = make()
    proxy.refuse()
    proxy.cut_all()
    runner.start(range(2))
    runner.start(range(2, 4))
    runner.stop([2, 3])
    until(lambda: "cannot be reached" in runner.waiting())
    assert runner.states() == {}
    proxy.accept()
    until(lambda: (runner.states(), len(running(admin, session_id)))[1] == 2)
    until(lambda: not runner.waiting())
    assert [job.spec.completions for job in admin.batch.list_namespaced_job(admin.namespace).items] == [2]


def test_hosts_that_are_asked_for_in_vain_for_too_long_are_given_up(proxy, make):
    runner = make(forward_grace_s="2")
    proxy.refuse()
    proxy.cut_all()
    runner.start(range(2))
    states = until(runner.states)
    assert states.keys() == {0, 1}
    assert "cannot be reached" in states[0]
    proxy.accept()
