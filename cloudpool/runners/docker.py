"""Hosts that are containers of a Docker Engine: this machine's, or the one that DOCKER_HOST names."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from cloudpool.errors import MissingExtraError, RunnerError
from cloudpool.runners.runner import COMMAND, OF_MEMORY, Order
from cloudpool.settings import Settings

LABEL = "cloudpool.session"
DEFAULT_HOST = "unix:///var/run/docker.sock"
CONNECT_S = 10.0
MOUNT = "/run/cloudpool"  # where the session's folder is in a container, when its server is embedded
SHARED_MEMORY = 64 << 30  # no limit of its own: what is in it counts as the container's memory
CURES = (  # words of a refusal, and what to do then
    ("network", "Name one that `docker network ls` lists: CLOUDPOOL_DOCKER_NETWORK."),
    ("memory limit", "Give a host more: CLOUDPOOL_DOCKER_MEMORY."),
    ("Range of CPUs", "Give a host what the machine has: CLOUDPOOL_DOCKER_CPUS."),
    (
        "python3",
        "Its image is none of cloudpool's: python -m cloudpool image makes one; CLOUDPOOL_DOCKER_IMAGE names it.",
    ),
    ("mount", "Look at the folders in CLOUDPOOL_DOCKER_MOUNTS."),
)


def connect(purpose: str) -> Any:
    """A client of the engine that DOCKER_HOST names, or of this machine's. Raises MissingExtraError, RunnerError."""
    try:
        import docker
    except ImportError:
        raise MissingExtraError("docker", purpose) from None
    host = os.environ.get("DOCKER_HOST", docker.constants.DEFAULT_UNIX_SOCKET)
    try:
        # The client leaves its socket open where none listens: what asks first is closed.
        host = docker.utils.parse_host(host)
        if host.startswith("http+unix://"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(host.removeprefix("http+unix://"))
        return docker.from_env()
    except (docker.errors.DockerException, OSError) as error:
        raise _no_engine(host, error) from None


def _no_engine(host: str, error: Exception) -> RunnerError:
    return RunnerError(
        f"no Docker Engine answers at {host} ({error}).\nStart one, or name it in DOCKER_HOST."
    )


def _has_proxy() -> bool:
    """Whether the client may go to an engine by a proxy, for which it need not be in reach from here."""
    return any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ)


class DockerRunner:
    """One container a host. The card goes in by stdin: it is in no setting that an engine shows."""

    server = None

    def __init__(self, order: Order) -> None:
        self._client = connect("The start method docker")
        import docker.errors

        self._errors = docker.errors
        chosen = order.settings
        self._image = chosen.docker_image or "cloudpool:python{}.{}".format(*sys.version_info[:2])
        self._order = order
        self._containers: dict[int, Any] = {}

    @staticmethod
    def room(settings: Settings) -> tuple[int, int]:
        return settings.docker_hosts, settings.docker_slots or os.cpu_count() or 1

    @staticmethod
    def shares_loopback(settings: Settings) -> bool:
        return settings.docker_network == "host"

    @staticmethod
    def check(settings: Settings) -> None:  # noqa: ARG004 - DOCKER_HOST is none of ours
        """Without the client: what a program has imported, its hosts would need, too."""
        if importlib.util.find_spec("docker") is None:
            raise MissingExtraError("docker", "The start method docker")
        host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        scheme, _, address = host.rpartition("://")
        try:
            if scheme in ("unix", "http+unix"):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                    sock.connect(address)
            elif scheme in ("tcp", "") and not _has_proxy():
                parts = urlsplit(f"//{address}")
                if parts.hostname and parts.port:
                    socket.create_connection((parts.hostname, parts.port), CONNECT_S).close()
        except (OSError, ValueError) as error:  # a port that is no number
            raise _no_engine(host, error) from None

    def start(self, numbers: range) -> None:
        for number in numbers:
            self._containers[number] = self._start(number)

    def _start(self, number: int) -> Any:
        order, chosen = self._order, self._order.settings
        command = [*COMMAND, "--card", "-", "--number", str(number)]
        mounts = list(chosen.docker_mounts or ())
        if chosen.blob_url and chosen.blob_url.startswith("file:"):
            shared = unquote(urlsplit(chosen.blob_url).path)
            mounts.append(f"{shared}:{shared}:rw")
        if order.folder:
            mounts.append(f"{order.folder}:{MOUNT}:rw")
            command += ["--folder", MOUNT]
        try:
            container = self._client.containers.create(
                self._image,
                command,
                name=f"cloudpool-{order.session_id}-{number}",
                labels={LABEL: order.session_id},
                user=f"{os.getuid()}:{os.getgid()}",
                volumes=mounts,
                network=chosen.docker_network,
                nano_cpus=int(chosen.docker_cpus * 1e9) if chosen.docker_cpus else None,
                mem_limit=chosen.docker_memory,
                shm_size=SHARED_MEMORY,
                stdin_open=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                environment={"HOME": "/tmp", "PYTHONUNBUFFERED": "1"},  # noqa: S108 - a container's own
            )
        except self._errors.ImageNotFound:
            raise RunnerError(
                f"the Docker Engine has no image {self._image}.\n"
                "Build it: python -m cloudpool image; or name another: CLOUDPOOL_DOCKER_IMAGE."
            ) from None
        except self._errors.APIError as error:
            raise _refusal("refuses to make a container", error.explanation) from None
        except (self._errors.DockerException, OSError) as error:  # it may be restarted
            raise _refusal("does not make a container", str(error)) from None
        try:
            self._begin(container)
        except (self._errors.DockerException, OSError) as error:
            with suppress(self._errors.DockerException, OSError):
                container.remove(force=True)
            explanation = error.explanation if isinstance(error, self._errors.APIError) else str(error)
            raise _refusal("cannot start a container", explanation) from None
        return container

    def _begin(self, container: Any) -> None:
        """Start it, and give it the card."""
        stdin = container.attach_socket(params={"stdin": 1, "stream": 1})
        try:
            container.start()
            stdin._sock.sendall(self._order.card)
        finally:
            stdin._sock.close()
            stdin.close()

    def states(self) -> dict[int, str]:
        try:
            listed = self._client.api.containers(
                all=True, filters={"label": f"{LABEL}={self._order.session_id}"}
            )
            by_id = {c["Id"]: c for c in listed}
            states = {number: self._state(by_id.get(c.id)) for number, c in self._containers.items()}
        except (
            self._errors.DockerException,
            OSError,
        ):  # it may be restarted: hosts' own lives tell meanwhile
            return {}
        return {number: why for number, why in states.items() if why}

    def _state(self, found: Any) -> str:
        if found is None:
            return "its container was removed"
        if found["State"] not in ("exited", "dead"):
            return ""
        try:
            state = self._client.api.inspect_container(found["Id"])["State"]
            said = self._client.api.logs(found["Id"], tail=5).decode(errors="replace").strip()
        except self._errors.NotFound:
            return "its container was removed"
        if state["OOMKilled"]:
            limit = self._order.settings.docker_memory
            return f"its container was {OF_MEMORY} (it has {limit}: CLOUDPOOL_DOCKER_MEMORY)"
        return f"its container ended with status {state['ExitCode']}: {said or 'no word'}"

    def waiting(self) -> str:
        return ""

    def stop(self, numbers: list[int]) -> None:
        for number in numbers:
            container = self._containers.pop(number, None)
            if container is not None:
                with suppress(self._errors.DockerException, OSError):  # gone, or going
                    container.remove(force=True)

    def close(self) -> None:
        self.stop(list(self._containers))
        self._client.close()


def _refusal(what: str, explanation: str) -> RunnerError:
    """With its cure, where one is known."""
    cure = next((cure for words, cure in CURES if words in explanation), "")
    return RunnerError(f"the Docker Engine {what}: {explanation}" + (f"\n{cure}" if cure else ""))
