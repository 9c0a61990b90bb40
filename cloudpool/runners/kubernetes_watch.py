"""What has become of a session's pods: one watch, kept by a thread, and the words for it.

list --version--> watch --changes--> pods ... cut, or over after WATCH_S --> watch again from where it was
                                          ... too old (410), or not sure --> list, and miss what has gone
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from cloudpool.errors import RunnerError
from cloudpool.runners.kubernetes_api import FIRST, INDEX, JOB, Cluster, Object, Refusal
from cloudpool.runners.runner import OF_MEMORY

WATCH_S = 60  # as long as a cut that nobody tells of can go unnoticed
PAUSE_S = 1.0  # between attempts
LAST_LINES = 3


class Pod(NamedTuple):
    """What is kept of a pod."""

    name: str
    number: int
    job: str
    address: str  # while it runs
    ended: str  # why, in words; "" while it has not
    pending: (
        tuple[str, str] | None
    )  # why it does not run yet: the API's reason, "" when it has none, and its message


class Watch:
    """The pods of a selector. Begins with a list, so that its maker hears of what is wrong; `close` ends the thread."""

    def __init__(self, cluster: Cluster, selector: str, deadline_s: float | None) -> None:
        """Raises RunnerError."""
        self._cluster, self._selector, self._deadline_s = cluster, selector, deadline_s
        self._lock = threading.Condition()
        self._pods: dict[str, Pod] = {}
        self._trouble = ""
        self._is_over = threading.Event()
        self._response: Any = None
        self._version = self._list()
        self._thread = threading.Thread(target=self._run, name="cloudpool-watch", daemon=True)
        self._thread.start()

    def pods(self) -> list[Pod]:
        with self._lock:
            return list(self._pods.values())

    def until(self, what: Callable[[list[Pod]], bool], timeout_s: float) -> bool:
        """Wait until something holds of the pods. False when it did not come to that in time."""
        with self._lock:
            return self._lock.wait_for(lambda: what(list(self._pods.values())), timeout_s)

    @property
    def trouble(self) -> str:
        """Why nothing is heard from the API now; "" when it is."""
        return self._trouble

    def close(self) -> None:
        self._is_over.set()
        # AttributeError: of a urllib3 before 2.3, where the thread stays until its watch is over. The others: the response
        # is over, or becomes so in the midst of this: TLS is given up before the socket is shut down, and the thread, if it
        # reads just then, finds nonsense and closes it.
        with self._lock, suppress(AttributeError, ValueError, RuntimeError, OSError):
            self._response.shutdown()
        self._thread.join(1.0)

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                if not self._version:
                    self._version = self._list()
                self._follow()
            except RunnerError as error:
                if self._is_over.is_set():
                    return
                if isinstance(error, Refusal) and error.status == 410:
                    self._version = ""
                else:
                    self._trouble = str(error).partition("\n")[0]
                    self._is_over.wait(PAUSE_S)

    def _list(self) -> str:
        found = self._cluster.list("pods", labelSelector=self._selector)
        with self._lock:
            there = set()
            for pod in found["items"]:
                there.add(pod["metadata"]["name"])
                self._saw(pod)
            for name, pod in self._pods.items():
                if name not in there:
                    self._pods[name] = _gone(pod)
            self._lock.notify_all()
        return str(found["metadata"]["resourceVersion"])

    def _follow(self) -> None:
        response = self._cluster.watch("pods", self._version, WATCH_S, labelSelector=self._selector)
        self._trouble = ""
        with self._lock:
            self._response = response
        if self._is_over.is_set():  # `close` came before there was something to shut down
            response.close()
            return
        for change in self._cluster.changes(response):
            kind, found = change["type"], change["object"]
            if kind == "ERROR":
                self._version = ""  # mostly 410, or what else it is: a list is never wrong
                self._is_over.wait(PAUSE_S)
                return
            self._version = found["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                with self._lock:
                    self._saw(found)
                    if kind == "DELETED":
                        name = found["metadata"]["name"]
                        self._pods[name] = _gone(self._pods[name])
                        self._lock.notify_all()

    def _saw(self, found: Object) -> None:
        pod = read(found, self._deadline_s)
        before = self._pods.get(pod.name)
        if before is None or not before.ended:
            self._pods[pod.name] = pod
            self._lock.notify_all()


def _gone(pod: Pod) -> Pod:
    return pod if pod.ended else pod._replace(ended="its pod was deleted", pending=None, address="")


# -- words ----------------------------------------------------------------------------------------------------------


def read(found: Object, deadline_s: float | None = None) -> Pod:
    """What a pod of the API says."""
    meta, status = found["metadata"], found.get("status", {})
    marks = meta["labels"]
    number = int(marks.get(FIRST, 0)) + int(marks.get(INDEX, 0))
    ended, pending = "", None
    if status.get("phase") in ("Failed", "Succeeded"):
        ended = _ended(found, deadline_s)
    elif status.get("phase", "Pending") == "Pending":
        pending = _pending(status)
    address = status.get("podIP", "") if status.get("phase") == "Running" else ""
    return Pod(meta["name"], number, marks.get(JOB, ""), address, ended, pending)


_DISRUPTIONS = {
    "PreemptionByScheduler": "it was preempted, for a pod of higher priority",
    "EvictionByEvictionAPI": "it was evicted: its node {node} is being drained, or someone asked for it",
    "DeletionByTaintManager": "its node {node} was tainted: it cannot be reached, or is to be emptied",
    "DeletionByPodGC": "its node {node} is gone",
}
_REASONS = {
    "Evicted": "its node {node} evicted it",
    "Preempting": "it was preempted by its node {node}",
    "NodeLost": "its node {node} is gone",
    "NodeShutdown": "its node {node} was shut down",
    "Terminated": "its node {node} was shut down",
    "DeadlineExceeded": "its deadline is over (activeDeadlineSeconds)",
}


def _ended(found: Object, deadline_s: float | None) -> str:
    """Why a pod has ended: what was done to it, else what it did itself."""
    status, node = found["status"], found["spec"].get("nodeName", "")
    message = _one_line(status.get("message", ""))
    conditions = {c["type"]: c for c in status.get("conditions", ()) if c["status"] == "True"}
    disrupted = conditions.get("DisruptionTarget")
    if disrupted and disrupted["reason"] in _DISRUPTIONS:
        return _DISRUPTIONS[disrupted["reason"]].format(node=node) + f" ({_one_line(disrupted['message'])})"
    if (reason := status.get("reason", "")) in _REASONS:
        return _REASONS[reason].format(node=node) + (f" ({message})" if message else "")
    own = next((c for c in status.get("containerStatuses", ()) if "terminated" in c["state"]), None)
    ended = own["state"]["terminated"] if own else {"exitCode": None, "reason": reason}
    if ended.get("reason") == "OOMKilled" and ended["exitCode"]:
        return f"it was {OF_MEMORY}: it may use {_memory_limit(found)} (kubernetes_memory)"
    if "deletionTimestamp" in found["metadata"]:
        if deadline_s is not None and _age_at_deletion(found["metadata"]) >= deadline_s - 1:
            return f"its deadline of {deadline_s:g} s is over (kubernetes_deadline_s)"
        return "its pod was deleted"
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return f"its command cannot be started ({_one_line(ended.get('message', ''))})"
    words = (
        f"it ended with status {ended['exitCode']}"
        if own
        else f"it ended ({message or reason or 'no reason given'})"
    )
    if ended.get("reason") == "OOMKilled":
        words += f"; a process in it was {OF_MEMORY} (limit {_memory_limit(found)}, kubernetes_memory)"
    said = (line.strip() for line in ended.get("message", "").splitlines())
    last = [line for line in said if line.strip("^~ ")][
        -LAST_LINES:
    ]  # a traceback's markers say nothing alone
    return words + (": " + " | ".join(last) if last else "")


def _memory_limit(found: Object) -> str:
    limits = found["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return str(limits.get("memory", "all that its node has"))


def _age_at_deletion(meta: Object) -> float:
    """Seconds from a pod's creation to its deletion, by the API's clock; the deletion's time counts its grace in."""
    created, due = (
        datetime.fromisoformat(meta[field]) for field in ("creationTimestamp", "deletionTimestamp")
    )
    grace_s: float = meta.get("deletionGracePeriodSeconds", 0)
    return (due - created).total_seconds() - grace_s


def _pending(status: Object) -> tuple[str, str]:
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", ""), condition.get("message", "")
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container["state"].get("waiting", {})
        if waiting.get("reason", "ContainerCreating") not in ("ContainerCreating", "PodInitializing"):
            return waiting["reason"], waiting.get("message", "")
    return "", ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
