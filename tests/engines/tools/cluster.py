"""A cluster as its administrator sees it, and how a test waits for what a cluster does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

RBAC = Path(__file__).resolve().parents[3] / "docs" / "kubernetes" / "rbac.yaml"
T = TypeVar("T")


def until(look: Callable[[], T], timeout_s: float = 60) -> T:
    """What `look` returns as soon as that is something: a cluster gets there when it gets there."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.1)
    return found


class Admin:
    """The cluster as its administrator sees it, and one namespace of it."""

    def __init__(self, namespace: str) -> None:
        import kubernetes

        from cloudpool.runners.kubernetes_api import bear_plain_authorities

        client = kubernetes.config.new_client_from_config(os.environ["KUBECONFIG"])
        bear_plain_authorities(client)
        self.client, self.namespace = client, namespace
        self.core = kubernetes.client.CoreV1Api(client)
        self.batch = kubernetes.client.BatchV1Api(client)

    def make_namespace(self) -> None:
        from kubernetes import utils

        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.core.create_namespace({"metadata": {"name": self.namespace, "labels": labels}})
        utils.create_from_yaml(self.client, str(RBAC), namespace=self.namespace)
        until(
            lambda: any(
                a.metadata.name == "default"
                for a in self.core.list_namespaced_service_account(self.namespace).items
            )
        )

    def kubeconfig(self, path: Path, account: str, server: str | None = None) -> str:
        """A kubeconfig of a service account, by its token."""
        import yaml

        asked = self.core.create_namespaced_service_account_token(
            account, self.namespace, {"spec": {"expirationSeconds": 7200}}
        )
        chosen = self.client.configuration
        about = {"server": server or chosen.host, "certificate-authority": chosen.ssl_ca_cert}
        where = {"cluster": "c", "user": "u", "namespace": self.namespace}
        path.write_text(
            yaml.safe_dump(
                {
                    "clusters": [{"name": "c", "cluster": about}],
                    "users": [{"name": "u", "user": {"token": asked.status.token}}],
                    "contexts": [{"name": "x", "context": where}],
                    "current-context": "x",
                }
            )
        )
        return str(path)

    def hosts(self) -> list[Any]:
        """Pods that are hosts, are running and are not on their way out."""
        listed = self.core.list_namespaced_pod(self.namespace, label_selector="cloudpool.dev/part=host")
        return [p for p in listed.items if p.status.phase == "Running" and not p.metadata.deletion_timestamp]

    def running_hosts(self) -> list[str]:
        return [pod.metadata.name for pod in self.hosts()]

    def sessions(self) -> set[str]:
        """Those of which there is a Job."""
        jobs = self.batch.list_namespaced_job(self.namespace).items
        return {job.metadata.labels["cloudpool.dev/session"] for job in jobs}

    def reaches_here_by(self) -> str:
        """This machine's address on the way to the cluster's nodes, which is how pods reach it."""
        node = self.core.list_node().items[0]
        internal = next(a.address for a in node.status.addresses if a.type == "InternalIP")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((internal, 9))
            return str(sock.getsockname()[0])

    def left(self, session_id: str) -> list[str]:
        """What there is of a session."""
        selector = f"cloudpool.dev/session={session_id}"
        lists = (
            self.batch.list_namespaced_job,
            self.core.list_namespaced_pod,
            self.core.list_namespaced_secret,
        )
        return [
            i.metadata.name for method in lists for i in method(self.namespace, label_selector=selector).items
        ]

    def close(self) -> None:
        with suppress(Exception):
            self.core.delete_namespace(self.namespace)
        self.client.rest_client.pool_manager.clear()
