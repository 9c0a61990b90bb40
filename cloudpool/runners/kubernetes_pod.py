"""What is asked of a cluster, as pure functions: a Job of pods that pass the `restricted` Pod Security Standard, its Secret.

A Job owns its pods and its Secret: when it goes (by us, by gc, or by itself some time after its pods have ended) they go.
"""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cloudpool.runners.kubernetes_api import FIRST, MANAGED, PART, SESSION, Object
from cloudpool.settings import Settings, quantity

CONTAINER = "cloudpool"
SECRETS = "/run/cloudpool"  # where a Secret's files are in a pod
USER = 1000  # any but root; the pod patch {"securityContext": {"runAsUser": null}} leaves it to the cluster
GRACE_S = 10  # between SIGTERM and SIGKILL: an agent needs a moment, for its last words
TTL_S = 120  # how long a Job that has ended stays: whoever asks why, asks within it


def image(settings: Settings) -> str:
    return settings.kubernetes_image or f"cloudpool:python{sys.version_info[0]}.{sys.version_info[1]}"


def slots(settings: Settings) -> int:
    return settings.kubernetes_slots or math.ceil(quantity(settings.kubernetes_cpu))


def labels(session_id: str, part: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**(more or {}), **MANAGED, SESSION: session_id, PART: part}


def hosts_job(session_id: str, settings: Settings, command: Sequence[str], numbers: range) -> Object:
    """An Indexed Job whose pods are the hosts of these numbers. None of them is ever started a second time."""
    first = str(numbers.start)
    resources = {"cpu": settings.kubernetes_cpu, "memory": settings.kubernetes_memory}
    if settings.kubernetes_gpu:
        resources["nvidia.com/gpu"] = str(settings.kubernetes_gpu)
    name = f"cloudpool-{session_id}-{first}"
    arguments = [*command, "--card", f"{SECRETS}/card", "--first", first]
    pod = _pod(settings, name, arguments, {"requests": resources, "limits": resources})
    marks = {**labels(session_id, "host", settings.kubernetes_labels), FIRST: first}
    job = _job(name, marks, _patched(pod, settings.kubernetes_pod_patch or {}))
    job["spec"] |= {
        "completionMode": "Indexed",
        "completions": len(numbers),
        "parallelism": len(numbers),
        # A host that has gone is a new one when it comes back: under another number, if one is needed at all.
        "backoffLimitPerIndex": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
            ]
        },
    }
    if settings.kubernetes_deadline_s:
        job["spec"]["activeDeadlineSeconds"] = math.ceil(settings.kubernetes_deadline_s)
    return job


def single_job(
    name: str, session_id: str, part: str, settings: Settings, command: Sequence[str], resources: Object
) -> Object:
    """A Job of one pod: the session's server, or a probe. Where it may run is as for hosts, what it asks for is not."""
    pod = _pod(settings, name, list(command), resources)
    patch = {
        k: v
        for k, v in (settings.kubernetes_pod_patch or {}).items()
        if k not in ("containers", "initContainers")
    }
    job = _job(name, labels(session_id, part, settings.kubernetes_labels), _patched(pod, patch))
    job["spec"]["backoffLimit"] = 0
    return job


def secret(job: Object, files: Mapping[str, bytes]) -> Object:
    """The Secret of a Job that is there: it has the Job's name, and goes with it."""
    meta = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": meta["name"], "labels": meta["labels"], "ownerReferences": [owner]},
        "immutable": True,
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }


def one_pod(job: Object) -> Object:
    """The pod that a Job would make, for a dry run: what admission has against it is then an answer, not an event."""
    template = job["spec"]["template"]
    meta = {"generateName": job["metadata"]["name"] + "-", "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def _job(name: str, marks: dict[str, str], pod: Object) -> Object:
    template = {"metadata": {"labels": marks}, "spec": pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": marks},
        "spec": {"ttlSecondsAfterFinished": TTL_S, "template": template},
    }


def _pod(settings: Settings, name: str, command: list[str], resources: Object) -> Object:
    container = {
        "name": CONTAINER,
        "image": image(settings),
        "command": command,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - a pod's own
        "resources": resources,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # so the watch brings a host's last words, too
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - as above
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - as above
            {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
        ],
    }
    pod: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            # Counted as the container's memory; without it /dev/shm has 64 MiB.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": resources["limits"]["memory"]}},
            {"name": "secrets", "secret": {"secretName": name, "defaultMode": 0o440}},
        ],
    }
    for field, value in (
        ("nodeSelector", settings.kubernetes_node_selector),
        ("tolerations", settings.kubernetes_tolerations),
        ("serviceAccountName", settings.kubernetes_service_account),
        ("priorityClassName", settings.kubernetes_priority_class),
    ):
        if value:
            pod[field] = value
    return pod


# -- strategic merge, as `kubectl patch` has it -----------------------------------------------------------------------

_KEYS = {  # of lists in a pod's spec whose elements are merged; other lists are replaced
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}


def _patched(base: Any, patch: Any, field: str = "") -> Any:
    """`base` with `patch` merged into it; null takes a field away, and `$patch` is delete or replace."""
    if isinstance(patch, dict) and isinstance(base, dict):
        if patch.get("$patch") == "replace":
            return {name: value for name, value in patch.items() if name != "$patch"}
        merged = {**base, **{name: _patched(base.get(name), value, name) for name, value in patch.items()}}
        return {name: value for name, value in merged.items() if patch.get(name, value) is not None}
    key = _KEYS.get(field)
    if key is None or not isinstance(patch, list) or not isinstance(base, list):
        return patch
    if any(element.get("$patch") == "replace" and len(element) == 1 for element in patch):
        return [element for element in patch if "$patch" not in element]
    found = {element[key]: element for element in base}
    for element in patch:
        name = element.get(key)
        if element.get("$patch") == "delete":
            found.pop(name, None)
        else:
            found[name] = _patched(found.get(name, {}), element)
    return list(found.values())
