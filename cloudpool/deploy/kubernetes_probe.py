"""The doctor's look from inside a cluster: a server as a session would have it, and one pod that tries it."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

from cloudpool.deploy.checks import Check, clocks, compared
from cloudpool.deploy.probe import trip_ms
from cloudpool.errors import CloudpoolError, RunnerError
from cloudpool.runners.kubernetes_api import PART, SESSION, Cluster
from cloudpool.runners.kubernetes_pod import SECRETS, image, one_pod, secret, single_job
from cloudpool.runners.kubernetes_server_pod import PodServer
from cloudpool.runners.kubernetes_waiting import Waiting
from cloudpool.runners.kubernetes_watch import Watch
from cloudpool.settings import Settings

RESOURCES = {"cpu": "100m", "memory": "256Mi"}
LOOK_S = 1.0


class Probe:
    """Makes its own session, and leaves nothing of it."""

    def __init__(self, cluster: Cluster, chosen: Settings) -> None:
        self._cluster, self._settings = cluster, chosen
        self._id = f"doctor-{secrets.token_hex(4)}"
        self._job = f"cloudpool-{self._id}"

    def checks(self) -> Iterator[Check]:
        """The image, the server from here and from a pod, the clocks."""
        with ExitStack() as stack:
            try:
                here, there = self._server(stack)
            except CloudpoolError as error:
                yield Check("server", False, str(error))
                return
            try:
                yield Check("server from here", True, f"{trip_ms(here)} ms a trip")
            except CloudpoolError as error:
                yield Check("server from here", False, str(error))
                return
            try:
                begin, said, end = time.time(), self._ask(stack, there), time.time()
            except CloudpoolError as error:
                yield Check("pod", False, str(error))
                return
            yield compared("image", image(self._settings), said["versions"])
            yield clocks(begin, said["time"], end)
            yield Check(
                "server from a pod", "error" not in said, said.get("error") or f"{said['trip_ms']} ms a trip"
            )

    def _server(self, stack: ExitStack) -> tuple[str, str]:
        """The URLs of the server for this machine and for pods. Raises CloudpoolError."""
        if self._settings.redis_url:
            return self._settings.redis_url, self._settings.redis_url
        folder = tempfile.mkdtemp(prefix="cloudpool-doctor-")
        stack.callback(shutil.rmtree, folder)
        server = PodServer(self._id, self._settings, secrets.token_hex(16), folder, lambda _: None)
        stack.callback(server.close)
        ready = server.start()
        return ready.local_url, ready.pod_url

    def _ask(self, stack: ExitStack, url: str) -> Any:
        """What a pod says. Raises RunnerError."""
        cluster, selector = self._cluster, f"{SESSION}={self._id},{PART}=probe"
        watch = stack.enter_context(closing(Watch(cluster, selector, None)))
        resources = {"requests": RESOURCES, "limits": RESOURCES}
        command = ["python3", "-m", "cloudpool.deploy.probe", SECRETS]
        job = single_job(self._job, self._id, "probe", self._settings, command, resources)
        cluster.admit(one_pod(job))
        made = cluster.make("jobs", job)
        stack.callback(cluster.remove, self._job)
        cluster.make("secrets", secret(made, {"url": url.encode()}))
        waiting, until = (
            Waiting(cluster, watch, self._settings),
            time.monotonic() + self._settings.start_timeout_s,
        )
        while not watch.until(lambda pods: any(pod.ended for pod in pods), LOOK_S):
            words = waiting.words({self._job: {0}})
            if time.monotonic() >= until or waiting.lost:
                raise RunnerError(
                    f"none has run in {self._settings.start_timeout_s:g} s: {waiting.lost.get(0) or words}"
                )
        pods = cluster.list("pods", labelSelector=selector)["items"]
        ended = pods[0]["status"]["containerStatuses"][0]["state"].get("terminated", {}) if pods else {}
        if ended.get("exitCode") != 0 or not ended.get("message"):
            raise RunnerError(f"it cannot run what it should: {watch.pods()[0].ended}")
        return json.loads(ended["message"])
