"""Why pods do not come, in one line: the commonest reason, from what the watch has seen and the events of one object."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping

from cloudpool.errors import RunnerError
from cloudpool.runners.kubernetes_api import Cluster, Object, Refusal, cured
from cloudpool.runners.kubernetes_pod import image
from cloudpool.runners.kubernetes_watch import Pod, Watch
from cloudpool.settings import Settings

AGAIN_S = 2.0  # between looks
ON_ITS_WAY = (
    "Scheduled",
    "Pulled",
    "Created",
    "Started",
    "SuccessfulAttachVolume",
)  # events that explain nothing
OF_NODES = {  # what the scheduler says of nodes that a pod may not run on, and the setting that it comes from
    "taint": "kubernetes_tolerations",
    "node affinity/selector": "kubernetes_node_selector",
}


class Waiting:
    """Looks for the owner of a watch. `lost` are numbers for which there will never be a pod, and why."""

    def __init__(self, cluster: Cluster, watch: Watch, settings: Settings) -> None:
        self.lost: dict[int, str] = {}
        self._cluster, self._watch, self._settings = cluster, watch, settings
        self._again_at = 0.0
        self._said = ""

    def words(self, jobs: Mapping[str, set[int]]) -> str:
        """Why some of the numbers of these Jobs are not there; "" when nothing is known. A call or two each AGAIN_S."""
        if time.monotonic() >= self._again_at:
            try:
                self._said = self._look(jobs)
            except RunnerError as error:
                self._said = str(error).partition("\n")[0]
            self._again_at = time.monotonic() + AGAIN_S
        return self._said

    def _look(self, jobs: Mapping[str, set[int]]) -> str:
        if self._watch.trouble:
            return self._watch.trouble
        pods = self._watch.pods()
        seen = {pod.number for pod in pods}
        for name, numbers in jobs.items():
            missing = numbers - seen - self.lost.keys()
            if missing and (said := self._why_no_pods(name, missing)):
                return f"{len(missing)} of {len(numbers)} pods are not there: {said}"
        return self._why_pending([pod for pod in pods if pod.pending is not None])

    def _why_no_pods(self, name: str, missing: set[int]) -> str:
        """Why a Job makes no pods: its last event says. A Job that has failed, or is gone, makes none any more."""
        try:
            job = self._cluster.call("GET", "jobs", name)
        except Refusal as error:
            if error.status != 404:
                raise
            self.lost |= dict.fromkeys(missing, "its Job was deleted")
            return ""
        for condition in job.get("status", {}).get("conditions", ()):
            if condition["type"] in ("Failed", "FailureTarget") and condition["status"] == "True":
                said = condition.get("message") or condition.get("reason")
                self.lost |= dict.fromkeys(missing, f"its Job has failed ({said})")
                return ""
        events = [event for event in self._events("Job", name) if event["type"] == "Warning"]
        return cured(" ".join(events[-1]["message"].split())) if events else ""

    def _why_pending(self, pods: list[Pod]) -> str:
        """The commonest reason; where the pods have none, what the events of one of them say."""
        if not pods:
            return ""
        reasons = Counter(pod.pending[0] for pod in pods if pod.pending is not None)
        reason, count = reasons.most_common(1)[0]
        name, message = next(
            (p.name, p.pending[1]) for p in pods if p.pending is not None and p.pending[0] == reason
        )
        events = self._events("Pod", name)
        if not reason:
            if not events or events[-1]["reason"] in ON_ITS_WAY:
                return ""
            reason, message = events[-1]["reason"], events[-1]["message"]
        said = self._explained(reason, " ".join(message.split()))
        if any(event["reason"] == "TriggeredScaleUp" for event in events):
            said += "; the cluster is adding nodes"
        return f"{count} {'pod is' if count == 1 else 'pods are'} pending: {said}"

    def _explained(self, reason: str, message: str) -> str:
        if reason in ("Unschedulable", "FailedScheduling"):
            message = re.sub(r"\s*(no new claims to deallocate|preemption: ).*", "", message).rstrip(" ,.")
            chosen = self._settings
            asked = f"cpu {chosen.kubernetes_cpu}, memory {chosen.kubernetes_memory}"
            if chosen.kubernetes_gpu:
                asked += f", {chosen.kubernetes_gpu} GPU"
            cures = [setting for words, setting in OF_NODES.items() if words in message]
            if cures:
                return f"no node takes it: {message} ({', '.join(cures)}; a host asks for {asked})"
            return f"no node has room for it: {message} (a host asks for {asked})"
        said = f"{reason}: {message}" if message else reason
        if reason in (
            "ErrImagePull",
            "ImagePullBackOff",
            "ErrImageNeverPull",
            "InvalidImageName",
            "ImageInspectError",
        ):
            return (
                f"its node cannot get the image {image(self._settings)}: "
                f"make it (python -m cloudpool image), or set kubernetes_image ({said})"
            )
        return said

    def _events(self, kind: str, name: str) -> list[Object]:
        """What is said of an object, the newest last."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        found: list[Object] = self._cluster.list("events", fieldSelector=selector)["items"]
        return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
