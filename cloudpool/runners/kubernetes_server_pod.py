"""The pod of a session's own server: made, awaited, watched, removed.

Its certificate is signed by an authority that is made for it and thrown away: who trusts that needs no name to check, and no
address, which nobody knows before the pod has one.
"""

from __future__ import annotations

import math
import os
import select
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from cloudpool import settings
from cloudpool.errors import RunnerError
from cloudpool.runners import certificates
from cloudpool.runners.kubernetes_api import PART, SESSION, Cluster
from cloudpool.runners.kubernetes_forward import TROUBLE, Forward
from cloudpool.runners.kubernetes_pod import SECRETS, one_pod, secret, single_job
from cloudpool.runners.kubernetes_waiting import Waiting
from cloudpool.runners.kubernetes_watch import Pod, Watch
from cloudpool.settings import Settings
from cloudpool.store import serving
from cloudpool.store.wire import CutError, NotYet, open_url

CPU = {"requests": "250m", "limits": "2"}  # it waits most of the time, and must not be slow when it does not
NAME = "cloudpool-server"  # in its certificate
SOCKET = "forward.sock"
LOOK_S = 1.0
CLOSE_S = 5.0
PAUSE_S = 0.1


class Ready(NamedTuple):
    local_url: str
    pod_url: str
    ca: str
    grace_s: float  # how long the way there may be cut


class PodServer:
    """Owns the pod, and the forward to it."""

    is_ready = False

    def __init__(
        self,
        session_id: str,
        chosen: Settings,
        password: str,
        folder: str,
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        """`say` is told why the pod does not come, while it does not. Raises RunnerError, MissingExtraError."""
        self._say = say
        self._session_id, self._settings, self._password, self._folder = session_id, chosen, password, folder
        self._cluster = Cluster(chosen)
        self._watch = Watch(self._cluster, f"{SESSION}={session_id},{PART}=server", None)
        self._forward: Forward | None = None
        self._trouble, self._troubled = os.pipe()  # the forward's thread tells why it gave up
        self._job = f"cloudpool-{session_id}-server"

    def start(self) -> Ready:
        """Make the pod, and wait until it serves. Raises RunnerError when it does not in start_timeout_s."""
        until = time.monotonic() + self._settings.start_timeout_s
        ca, certificate, key = certificates.make(NAME)
        self._make(certificate, key)
        pod = self._await_pod(until)
        pod_url = self._url(f"rediss://{{}}@{pod.address}:{serving.PORT}/0", ca)
        grace_s = 0.0 if self._cluster.is_inside else self._settings.kubernetes_forward_grace_s
        if self._cluster.is_inside:
            local_url = pod_url
        else:
            tls = ssl.create_default_context(cadata=ca)
            self._forward = Forward(self._cluster, pod.name, serving.PORT, tls, NAME, grace_s, self._failed)
            path = os.path.join(self._folder, SOCKET)
            local_url = self._url(f"unix://{{}}@{path}")
        self._await_server(pod, pod_url, until)
        if self._forward is not None:
            self._forward.listen(path)
        self.is_ready = True
        return Ready(local_url, pod_url, ca, grace_s)

    def stay(self) -> None:
        """Until stdin is closed. Raises RunnerError when the server is gone."""
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        poll.register(self._trouble, select.POLLIN)
        while True:
            for fd, _ in poll.poll(1000 * LOOK_S):
                if fd == self._trouble:
                    raise RunnerError(os.read(self._trouble, 4096).decode())
                if not os.read(0, 4096):
                    return
            self._check()

    def close(self) -> None:
        """Remove the pod. Where the API is away it ends by itself, as nobody talks to it any more."""
        if self._forward is not None:
            self._forward.close()
        self._watch.close()
        with suppress(RunnerError):
            self._cluster.remove(self._job, CLOSE_S)
        self._cluster.close()
        os.close(self._trouble)
        os.close(self._troubled)

    # -- the pod ------------------------------------------------------------------------------------------------------

    def _make(self, certificate: str, key: str) -> None:
        chosen = self._settings
        memory = chosen.kubernetes_server_memory
        patience_s = chosen.kubernetes_forward_grace_s + chosen.lease_s
        command = ["python3", "-m", serving.__name__, SECRETS, self._session_id]
        command += [str(int(settings.quantity(memory))), str(math.ceil(patience_s))]
        resources = {kind: {"cpu": cpu, "memory": memory} for kind, cpu in CPU.items()}
        job = single_job(self._job, self._session_id, "server", chosen, command, resources)
        contents = (
            certificate.encode(),
            key.encode(),
            serving.users(self._password),
            self._password.encode(),
        )
        self._cluster.admit(one_pod(job))
        made = self._cluster.make("jobs", job, CLOSE_S)
        files = dict(zip(serving.FILES, contents, strict=True))
        self._cluster.make("secrets", secret(made, files), CLOSE_S)

    def _await_pod(self, until: float) -> Pod:
        waiting, said = Waiting(self._cluster, self._watch, self._settings), ""
        while not self._watch.until(lambda pods: any(pod.address or pod.ended for pod in pods), LOOK_S):
            words = waiting.words({self._job: {0}})
            if words and words != said:
                self._say({"waiting": words})
                said = words
            if time.monotonic() >= until or waiting.lost:
                why = waiting.lost.get(0) or words or "the cluster does not say why"
                raise RunnerError(f"the session's server did not start in {self._cluster.place}: {why}.")
        self._check()
        return next(pod for pod in self._watch.pods() if pod.address)

    def _await_server(self, pod: Pod, pod_url: str, until: float) -> None:
        """A pod that runs may not serve yet."""
        while True:
            try:
                if self._forward is None:
                    open_url(pod_url).close()
                else:
                    self._forward.open().close()
            except (NotYet, CutError, *TROUBLE) as error:
                if time.monotonic() >= until:
                    raise RunnerError(
                        f"the session's server, pod {pod.name}, cannot be reached ({error})."
                    ) from None
            else:
                return
            self._check()
            time.sleep(PAUSE_S)

    def _check(self) -> None:
        for pod in self._watch.pods():
            if pod.ended:
                raise RunnerError(
                    f"the session's server, pod {pod.name}, is gone: {pod.ended}.\n"
                    "kubernetes_server_memory is what it may use; a server of your own (redis_url) outlives pods."
                )

    def _failed(self, why: str) -> None:
        os.write(self._troubled, why.encode())

    def _url(self, form: str, ca: str = "") -> str:
        url = form.format(f"{serving.USER}:{quote(self._password, safe='')}")
        return f"{url}?ssl_check_hostname=false&ssl_ca_data={quote(ca, safe='')}" if ca else url
