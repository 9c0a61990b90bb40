"""A cluster's API, as the runner and its server, the doctor and gc use it: one connection, plain JSON, errors with their cures.

The kubernetes package finds the cluster, logs in and holds the connections. Its models are left out: their import takes a second
or two, they cost a millisecond a pod, and they know no field that is newer than they are. Objects are dicts as the API has them.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cloudpool.errors import MissingExtraError, RunnerError
from cloudpool.settings import Settings

MANAGED = {"app.kubernetes.io/name": "cloudpool", "app.kubernetes.io/managed-by": "cloudpool"}
SESSION = "cloudpool.dev/session"  # a label of everything that a session has made
PART = "cloudpool.dev/part"  # host, server or probe
FIRST = "cloudpool.dev/first"  # the number of a Job's first host
JOB = "batch.kubernetes.io/job-name"
INDEX = "batch.kubernetes.io/job-completion-index"
OURS = ",".join(f"{label}={value}" for label, value in MANAGED.items())

_CORE, _BATCH = "/api/v1/namespaces/{namespace}", "/apis/batch/v1/namespaces/{namespace}"
PATHS = {
    "jobs": _BATCH + "/jobs",
    "pods": _CORE + "/pods",
    "secrets": _CORE + "/secrets",
    "events": _CORE + "/events",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
}
RIGHTS = "docs/kubernetes/rbac.yaml"
CONNECT_S, READ_S = 5.0, 20.0
PAUSE_S = 0.5  # between attempts while the API does not answer
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # in a pod: who it is

Object = dict[str, Any]


class Refusal(RunnerError):
    """The API understood, and said no. `status` is HTTP's, `said` its own words."""

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status, self.said = status, said


class Unreachable(RunnerError):
    """The API did not answer, or only that it cannot for now."""


class Cluster:
    """One namespace of a cluster. May be used by several threads; `close` ends its connections."""

    def __init__(self, settings: Settings) -> None:
        """Raises MissingExtraError, RunnerError when there is no configuration."""
        try:  # only here: the root looks at the runner, too, and its import must not take a second
            import urllib3
            from kubernetes import client, config
        except ImportError:
            raise MissingExtraError("kubernetes", "The start method kubernetes") from None
        self._trouble = (urllib3.exceptions.HTTPError, OSError, ValueError)
        self._timeout = urllib3.Timeout
        self.is_inside = False
        self.namespace = settings.kubernetes_namespace or ""
        self.client = self._configured(client, config, settings.kubernetes_context)
        bear_plain_authorities(self.client)

    def _configured(self, client: Any, config: Any, context: str | None) -> Any:
        """As kubectl finds it: the kubeconfig; without one, in a pod, its service account."""
        # Named, since the package itself reads the variable at its import, and only then.
        paths = os.environ.get("KUBECONFIG") or "~/.kube/config"
        is_there = any(os.path.isfile(os.path.expanduser(path)) for path in paths.split(os.pathsep))
        try:
            if is_there or context or not (ACCOUNT / "token").exists():
                return self._from_kubeconfig(config, paths, context)
            self.is_inside = True
            self.namespace = self.namespace or (ACCOUNT / "namespace").read_text().strip()
            configuration = client.Configuration()
            config.load_incluster_config(client_configuration=configuration)
        except (config.ConfigException, OSError, ValueError) as error:
            raise RunnerError(
                f"there is no configuration of a Kubernetes cluster that can be used ({_line(error)}).\n"
                "Set KUBECONFIG to a kubeconfig file whose context works with kubectl (kubernetes_context names another)."
            ) from None
        return client.ApiClient(configuration)

    def _from_kubeconfig(self, config: Any, paths: str, context: str | None) -> Any:
        contexts, active = config.list_kube_config_contexts(paths)
        chosen = next((c for c in contexts if c["name"] == context), None) if context else active
        if chosen is None:
            raise ValueError(f"its contexts are {', '.join(c['name'] for c in contexts)}; not {context}")
        self.namespace = self.namespace or chosen["context"].get("namespace") or "default"
        return config.new_client_from_config(paths, context=chosen["name"])

    def close(self) -> None:
        self.client.rest_client.pool_manager.clear()

    @property
    def place(self) -> str:
        return f"the namespace {self.namespace} of {self.client.configuration.host}"

    # -- calls ------------------------------------------------------------------------------------------------------

    def call(
        self, verb: str, resource: str, name: str = "", body: Object | None = None, **query: object
    ) -> Object:
        """The answer to one request; `query` as the API spells it. Raises Refusal, Unreachable."""
        response = self._send(verb, resource, name, body, query, READ_S)
        try:
            found: Object = json.loads(response.data)
        except self._trouble as error:
            raise self._unreachable(error) from None
        return found

    def hold(
        self,
        for_s: float,
        verb: str,
        resource: str,
        name: str = "",
        body: Object | None = None,
        **query: object,
    ) -> Object:
        """As `call`, tried again until the API has been away for `for_s`."""
        until = time.monotonic() + for_s
        while True:
            try:
                return self.call(verb, resource, name, body, **query)
            except Unreachable:
                if time.monotonic() >= until:
                    raise
                time.sleep(PAUSE_S)

    def make(self, resource: str, body: Object, for_s: float = 0.0) -> Object:
        """Create a Job or Secret. Nobody else has its name: that it is there already is the end of an earlier attempt."""
        try:
            return self.hold(for_s, "POST", resource, body=body)
        except Refusal as error:
            if error.status != 409:
                raise
            # A Job's uid is wanted; a Secret is never read.
            return self.call("GET", resource, body["metadata"]["name"]) if resource == "jobs" else body

    def list(self, resource: str, **query: object) -> Object:
        return self.call("GET", resource, "", None, **query)

    def admit(self, pod: Object) -> None:
        """Have a pod admitted as if it were made. Raises Refusal, which says what stands against it."""
        self.call("POST", "pods", body=pod, dryRun="All")

    def remove(self, job: str, for_s: float = 0.0) -> None:
        """A Job, with all that it owns, by and by; one that is not there is no error."""
        try:
            self.hold(for_s, "DELETE", "jobs", job, propagationPolicy="Background")
        except Refusal as error:
            if error.status != 404:
                raise

    def watch(self, resource: str, version: str, seconds: int, **query: object) -> Any:
        """A response that brings, for some seconds, what changes in a list from that version on. Raises as `call` does."""
        query |= {"watch": 1, "resourceVersion": version, "timeoutSeconds": seconds, "allowWatchBookmarks": 1}
        return self._send("GET", resource, "", None, query, seconds + CONNECT_S, preload_content=False)

    def changes(self, response: Any) -> Iterator[Object]:
        """Each change of a watch; ends when the API ends it. Raises Unreachable when it is cut."""
        rest = b""
        try:
            for data in response.stream(amt=None):
                *lines, rest = (rest + data).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        except self._trouble as error:
            raise self._unreachable(error) from None
        finally:
            response.close()

    def may(self, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        """Whether this user has a right, says the API."""
        about = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": self.namespace, **about}},
        }
        return bool(self.call("POST", "selfsubjectaccessreviews", body=body)["status"]["allowed"])

    def headers(self) -> dict[str, str]:
        """Who this is; a token is renewed where the kubeconfig says how."""
        token = self.client.configuration.auth_settings().get("BearerToken")
        return {"authorization": token["value"]} if token else {}

    def _send(
        self,
        verb: str,
        resource: str,
        name: str,
        body: Object | None,
        query: Object,
        read_s: float,
        **options: Any,
    ) -> Any:
        url = self.client.configuration.host + PATHS[resource].format(namespace=self.namespace)
        url += f"/{name}" if name else ""
        url += "?" + urlencode(query) if query else ""
        try:
            response = self.client.rest_client.pool_manager.request(
                verb,
                url,
                headers={**self.headers(), "accept": "application/json", "content-type": "application/json"},
                body=json.dumps(body).encode() if body is not None else None,
                timeout=self._timeout(connect=CONNECT_S, read=read_s),
                retries=False,  # it is `hold` that tries again
                **options,
            )
            if response.status >= 400:
                raise self._explained(response.status, response.read() if options else response.data)
        except self._trouble as error:
            raise self._unreachable(error) from None
        return response

    # -- errors -----------------------------------------------------------------------------------------------------

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"the Kubernetes API at {self.client.configuration.host} cannot be reached ({_line(error)}).\n"
            "Does `kubectl get pods` work here? KUBECONFIG and kubernetes_context say which cluster it is."
        )

    def _explained(self, status: int, body: bytes) -> RunnerError:
        said = _said(status, body)
        if status == 429 or status >= 500:
            return Unreachable(
                f"the Kubernetes API at {self.client.configuration.host} cannot answer now ({said})."
            )
        return Refusal(self._words(status, said), status, said)

    def _words(self, status: int, said: str) -> str:
        if status == 401:
            return (
                f"the Kubernetes API at {self.client.configuration.host} does not know this user ({said}).\n"
                "Its token or certificate in the kubeconfig has expired, or is of another cluster: log in again."
            )
        if right := re.search(r'cannot (\S+) resource "(\S+)"', said):
            return (
                f"this user may not {right[1]} {right[2]} in {self.place}.\n"
                f"An administrator gives it what cloudpool needs by: kubectl -n {self.namespace} apply -f {RIGHTS}"
            )
        if re.search(r'namespaces? "\S+" (is forbidden|not found)', said) or "being terminated" in said:
            host = self.client.configuration.host
            return (
                f"the cluster at {host} has no namespace {self.namespace} ({said}).\n"
                "Make it, or name another by kubernetes_namespace."
            )
        return f"{self.place} refuses it: {cured(said)}"


def bear_plain_authorities(client: Any) -> None:
    """Python 3.13 wants extensions in an authority's certificate that those of many clusters lack. kubectl does not."""
    from urllib3.util.ssl_ import create_urllib3_context

    if client.configuration.verify_ssl:
        context = create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        client.rest_client.pool_manager.connection_pool_kw["ssl_context"] = context


CURES = (  # words of a refusal, and what to do then
    (
        "exceeded quota",
        "ask for less (kubernetes_hosts, kubernetes_cpu, kubernetes_memory), or have the quota raised",
    ),
    ("must specify", "the namespace's quota wants a value for it: set it by kubernetes_pod_patch"),
    (
        "violates PodSecurity",
        "what kubernetes_pod_patch adds is not allowed there: without it pods pass `restricted`",
    ),
    ("service account", "make that service account, or name another by kubernetes_service_account"),
    ("serviceaccount", "make that service account, or name another by kubernetes_service_account"),
    ("PriorityClass", "name another by kubernetes_priority_class"),
    ("priority class", "name another by kubernetes_priority_class"),
    ("LimitRange", "ask for what it allows: kubernetes_cpu, kubernetes_memory"),
    ("usage per", "ask for what the namespace's LimitRange allows: kubernetes_cpu, kubernetes_memory"),
    (
        "admission webhook",
        "that is a policy of the cluster: kubernetes_pod_patch and kubernetes_labels change the pods",
    ),
    ("Invalid value", "correct the setting that it comes from (kubernetes_..., or kubernetes_pod_patch)"),
)


def cured(said: str) -> str:
    """A refusal of the cluster with its cure, in one line."""
    said = re.sub(
        r'^(Job\.batch|pods|jobs\.batch|Error creating:)\s*("\S+" )?(is (forbidden|invalid): )?', "", said
    )
    said = re.sub(r'^pods "\S+" is (forbidden|invalid): ', "", said)
    cure = next((cure for words, cure in CURES if words in said), "")
    return f"{said} ({cure})" if cure else said


def _said(status: int, body: bytes) -> str:
    """The message of the API's Status object; of a proxy in between, what there is."""
    try:
        return str(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"HTTP {status}"


def _line(error: BaseException) -> str:
    text = str(getattr(error, "reason", None) or error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
