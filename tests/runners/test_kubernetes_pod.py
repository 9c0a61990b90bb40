"""What is asked of a cluster: manifests are pure, so they are looked at without one."""

import pytest

from cloudpool import settings
from cloudpool.runners import kubernetes_pod
from cloudpool.runners.runner import COMMAND


def chosen(**environ):
    return settings.read(
        {}, {f"CLOUDPOOL_KUBERNETES_{name.upper()}": text for name, text in environ.items()}, "/"
    )


def pod(**environ):
    job = kubernetes_pod.hosts_job("0123456789ab", chosen(**environ), COMMAND, range(20, 40))
    return job["spec"]["template"]["spec"]


def test_a_thousand_hosts_are_one_job():
    spec = kubernetes_pod.hosts_job("0123456789ab", chosen(), COMMAND, range(1000, 2000))["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (1000, 1000, "Indexed")
    assert spec["template"]["spec"]["containers"][0]["command"][-2:] == ["--first", "1000"]
    assert spec["backoffLimitPerIndex"] == 0


def test_slots_are_the_cpus_rounded_up_unless_they_are_set():
    assert [kubernetes_pod.slots(chosen(cpu=cpu)) for cpu in ("500m", "1", "1.5", "4")] == [1, 1, 2, 4]
    assert kubernetes_pod.slots(chosen(cpu="4", slots="6")) == 6


def test_settings_are_in_the_pod():
    made = pod(
        image="registry.example/x:1",
        cpu="500m",
        memory="3Gi",
        gpu="2",
        node_selector='{"disk": "ssd"}',
        tolerations='[{"key": "gpu", "operator": "Exists"}]',
        service_account="runner",
        priority_class="low",
    )
    container = made["containers"][0]
    assert container["image"] == "registry.example/x:1"
    asked = {"cpu": "500m", "memory": "3Gi", "nvidia.com/gpu": "2"}
    assert container["resources"] == {"requests": asked, "limits": asked}
    assert made["nodeSelector"] == {"disk": "ssd"}
    assert made["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert (made["serviceAccountName"], made["priorityClassName"]) == ("runner", "low")


def test_the_users_labels_do_not_undo_ours():
    job = kubernetes_pod.hosts_job(
        "0123456789ab", chosen(labels='{"team": "x", "cloudpool.dev/session": "y"}'), COMMAND, range(1)
    )
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["cloudpool.dev/session"]) == ("x", "0123456789ab")


@pytest.mark.parametrize(
    ("patch", "where", "expected"),
    [
        ('{"dnsPolicy": "None"}', lambda p: p["dnsPolicy"], "None"),
        ('{"securityContext": {"runAsUser": null}}', lambda p: sorted(p["securityContext"]),
         ["fsGroup", "runAsGroup", "runAsNonRoot", "seccompProfile"]),
        ('{"containers": [{"name": "cloudpool", "env": [{"name": "A", "value": "1"}]}]}',
         lambda p: [e["name"] for e in p["containers"][0]["env"]], ["HOME", "A"]),
        ('{"containers": [{"name": "beside", "image": "x"}]}', lambda p: [c["name"] for c in p["containers"]],
         ["cloudpool", "beside"]),
        ('{"volumes": [{"name": "tmp", "emptyDir": null, "hostPath": {"path": "/x"}}]}', lambda p: p["volumes"][0],
         {"name": "tmp", "hostPath": {"path": "/x"}}),
        ('{"volumes": [{"name": "shm", "$patch": "delete"}]}', lambda p: [v["name"] for v in p["volumes"]], ["tmp", "secrets"]),
        ('{"tolerations": [{"key": "b"}]}', lambda p: p["tolerations"], [{"key": "b"}]),
        ('{"securityContext": {"$patch": "replace", "fsGroup": 1}}', lambda p: p["securityContext"], {"fsGroup": 1}),
    ],
)  # fmt: skip
def test_the_pod_patch_is_merged_as_kubectl_does(patch, where, expected):
    assert where(pod(pod_patch=patch, tolerations='[{"key": "a"}]')) == expected


def test_a_server_has_where_hosts_may_run_and_not_what_is_added_to_their_containers():
    patch = '{"nodeName": "n", "containers": [{"name": "beside", "image": "x"}]}'
    job = kubernetes_pod.single_job(
        "s", "0123456789ab", "server", chosen(pod_patch=patch), ["x"], {"limits": {"memory": "1Gi"}}
    )
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeName"] == "n"
    assert [container["name"] for container in spec["containers"]] == ["cloudpool"]
