"""Hosts that are pods of a Kubernetes cluster: one Indexed Job for each order of hosts, and one watch for all of them.

    start --create--> Job --> pods --mount--> Secret (the card), which the Job owns
    states, waiting <-- watch of the session's pods (a thread); events, where a pod does not get on
    stop, close --delete--> pods, Jobs (and with a Job its pods and its Secret)

While the API is away, hosts work on: what is to be started or stopped is started or stopped later. Nothing here waits for it,
since the same thread sends processes to the hosts that are there.
"""

from __future__ import annotations

import time

from cloudpool.errors import RunnerError
from cloudpool.runners.kubernetes_api import (
    INDEX,
    JOB,
    PART,
    SESSION,
    Cluster,
    Refusal,
    Unreachable,
)
from cloudpool.runners.kubernetes_pod import hosts_job, one_pod, secret, slots
from cloudpool.runners.kubernetes_waiting import Waiting
from cloudpool.runners.kubernetes_watch import Watch
from cloudpool.runners.runner import COMMAND, Order
from cloudpool.settings import Settings

CLOSE_S = 5.0  # for an API that is away when the session ends
AGAIN_S = 1.0  # between attempts to do what could not be done


class KubernetesRunner:
    """The hosts of one session. Owned by the program that orders them, which closes it."""

    command = COMMAND
    server = "cloudpool.runners.kubernetes_server"

    def __init__(self, order: Order) -> None:
        self._order, self._settings = order, order.settings
        self._cluster = Cluster(self._settings)
        self._selector = f"{SESSION}={order.session_id},{PART}=host"
        self._watch = Watch(self._cluster, self._selector, self._settings.kubernetes_deadline_s)
        self._jobs: dict[str, set[int]] = {}  # name -> the numbers that are not stopped
        self._first: dict[str, int] = {}
        self._waiting = Waiting(self._cluster, self._watch, self._settings)
        self._to_stop: set[int] = set()
        self._late: dict[
            range, float
        ] = {}  # orders that the API has not taken yet, and until when they stand
        self._again_at = 0.0

    @staticmethod
    def room(settings: Settings) -> tuple[int, int]:
        return settings.kubernetes_hosts, slots(settings)

    @staticmethod
    def shares_loopback(settings: Settings) -> bool:  # noqa: ARG004 - no pod does
        return False

    @staticmethod
    def shares_folder(settings: Settings, path: str) -> bool:  # noqa: ARG004 - what is mounted where, the cluster knows
        return "volumes" in (settings.kubernetes_pod_patch or {})

    def start(self, numbers: range) -> None:
        try:
            self._start(numbers)
        except Unreachable:
            self._late[numbers] = time.monotonic() + self._settings.kubernetes_forward_grace_s

    def states(self) -> dict[int, str]:
        if (self._late or self._to_stop) and time.monotonic() >= self._again_at:
            self._again_at = time.monotonic() + AGAIN_S
            self._start_late()
            self._stop()
        return self._waiting.lost | {pod.number: pod.ended for pod in self._watch.pods() if pod.ended}

    def waiting(self) -> str:
        return self._waiting.words(self._jobs)

    def stop(self, numbers: list[int]) -> None:
        self._to_stop.update(numbers)
        self._late = {late: until for late, until in self._late.items() if not self._to_stop.issuperset(late)}
        self._stop()

    def close(self) -> None:
        self._watch.close()
        try:
            # One call, and it finds what an answer that got lost has made, too.
            self._cluster.hold(
                CLOSE_S, "DELETE", "jobs", labelSelector=self._selector, propagationPolicy="Background"
            )
        except Unreachable as error:
            raise RunnerError(
                f"{str(error).partition(chr(10))[0]}\n"
                f"Pods of session {self._order.session_id} end by themselves; `python -m cloudpool gc --on kubernetes` removes them."
            ) from None
        finally:
            self._cluster.close()

    # -- the start, at once or when the API is back -----------------------------------------------------------------------

    def _start(self, numbers: range) -> None:
        """Done again after a cut, it goes on where it was."""
        job = hosts_job(self._order.session_id, self._settings, self.command, numbers)
        name = job["metadata"]["name"]
        self._cluster.admit(one_pod(job))
        made = self._cluster.make("jobs", job)
        self._jobs[name], self._first[name] = set(numbers), numbers.start
        try:
            self._cluster.make("secrets", secret(made, {"card": self._order.card}))
        except Refusal:
            self.stop(list(numbers))
            raise

    def _start_late(self) -> None:
        for numbers, until in list(self._late.items()):
            try:
                self._start(numbers)
            except RunnerError as error:
                if isinstance(error, Unreachable) and time.monotonic() < until:
                    return
                self._waiting.lost |= dict.fromkeys(numbers, str(error).partition("\n")[0])
            del self._late[numbers]

    # -- the end of some hosts ------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        for name, numbers in list(self._jobs.items()):
            if stopped := numbers & self._to_stop:
                try:
                    self._delete(name, numbers, stopped)
                except Unreachable:
                    return
                self._to_stop -= stopped
                numbers -= stopped
                if not numbers:
                    del self._jobs[name]
        self._to_stop &= set().union(*self._jobs.values(), *self._late)  # unknown ones are passed over

    def _delete(self, name: str, numbers: set[int], stopped: set[int]) -> None:
        """A Job none of whose hosts is left goes, and its pods and Secret with it; else only the pods go."""
        if stopped == numbers:
            self._cluster.remove(name)
        else:
            indexes = ",".join(str(number - self._first[name]) for number in sorted(stopped))
            self._cluster.call("DELETE", "pods", labelSelector=f"{JOB}={name},{INDEX} in ({indexes})")
