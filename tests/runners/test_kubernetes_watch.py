"""What a pod's status means, in words. (Statuses as API servers sent them; tests/engines makes real ones.)"""

import pytest

from cloudpool.runners import kubernetes_watch

MARKS = {
    "cloudpool.dev/first": "20",
    "batch.kubernetes.io/job-completion-index": "3",
    "batch.kubernetes.io/job-name": "j",
}


def read(deadline_s=None, meta=(), **status):
    found = {
        "metadata": {"name": "p", "labels": MARKS, "creationTimestamp": "2026-01-01T00:00:00Z", **dict(meta)},
        "spec": {"nodeName": "n1", "containers": [{"resources": {"limits": {"memory": "2Gi"}}}]},
        "status": status,
    }
    return kubernetes_watch.read(found, deadline_s)


def ended(code, reason, message="", **more):
    terminated = {"exitCode": code, "reason": reason, "message": message}
    return read(
        phase="Failed" if code else "Succeeded",
        containerStatuses=[{"state": {"terminated": terminated}}],
        **more,
    )


def disrupted(reason):
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why"}
    return ended(143, "Error", conditions=[condition]).ended


def test_a_pods_number_is_its_index_after_its_jobs_first():
    assert read(phase="Running", podIP="10.0.0.1")[:4] == ("p", 23, "j", "10.0.0.1")


def test_how_a_pod_ended_by_itself():
    assert ended(0, "Completed").ended == "it ended with status 0"
    assert ended(3, "Error", "a\nb\n\nc\n").ended == "it ended with status 3: a | b | c"
    assert (
        ended(137, "OOMKilled").ended
        == "it was killed for want of memory: it may use 2Gi (kubernetes_memory)"
    )
    assert "a process in it was killed for want of memory" in ended(0, "OOMKilled").ended
    assert ended(128, "StartError", "no such file").ended == "its command cannot be started (no such file)"


def test_what_was_done_to_a_pod():
    assert disrupted("PreemptionByScheduler") == "it was preempted, for a pod of higher priority (why)"
    assert "node n1 is gone" in disrupted("DeletionByPodGC")
    assert "node n1 is being drained" in disrupted("EvictionByEvictionAPI")
    assert "node n1 was tainted" in disrupted("DeletionByTaintManager")
    full = read(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert full.ended == "its node n1 evicted it (The node was low on resource: memory.)"


@pytest.mark.parametrize(
    ("at", "said"), [("00:01:10", "its deadline of 60 s is over"), ("00:00:50", "its pod was deleted")]
)
def test_a_deleted_pod_was_at_its_deadline_or_not(at, said):
    meta = {"deletionTimestamp": f"2026-01-01T{at}Z", "deletionGracePeriodSeconds": 10}
    assert ended(143, "Error", deadline_s=60, meta=meta).ended.startswith(said)


def test_a_pod_that_does_not_run_yet_has_the_reason_of_its_scheduling_or_container():
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes",
    }
    assert read(phase="Pending", conditions=[unscheduled]).pending == ("Unschedulable", "0/1 nodes")
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "m"}}
    assert read(phase="Pending", containerStatuses=[{"state": waiting}]).pending == ("ErrImagePull", "m")
    creating = {"waiting": {"reason": "ContainerCreating"}}
    assert read(phase="Pending", containerStatuses=[{"state": creating}]).pending == ("", "")
    assert read(phase="Running").pending is None
