"""Remove from an engine what sessions left there whose root is gone. Normally there is nothing: hosts leave by themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from cloudpool.errors import CloudpoolError
from cloudpool.settings import Settings
from cloudpool.store import bucket
from cloudpool.store.bucket import Place

QUIET = dt.timedelta(minutes=10)  # a Job may be without pods for a while: a quota, an admission


class Found(NamedTuple):
    """Something of a session, and how to remove it."""

    session: str
    what: str
    age: dt.timedelta
    is_active: bool  # something of it runs
    is_over: bool  # nothing of it will ever run again
    remove: Callable[[], object]


def collect(
    method: str, chosen: Settings, older_than: dt.timedelta, session: str | None, *, is_all: bool
) -> Iterator[str]:
    """Remove, and tell of each thing. Without a session named: of all where nothing runs, and of what is old.

    The engine's first, whatever becomes of the storage. Raises RunnerError, BlobStoreError, CloudpoolError.
    """

    def is_meant(thing: Found) -> bool:
        if session is not None:
            return thing.session == session
        return is_all or thing.age > older_than

    found = list(ENGINES[method](chosen))
    living = {
        thing.session for thing in found if thing.is_active or (thing.age < QUIET and not thing.is_over)
    }
    for thing in found:
        is_dead = session is None and thing.session not in living
        if is_meant(thing) or is_dead:
            yield _removed(thing)
    stored = list(_stored(chosen))
    for thing in stored:
        if is_meant(thing):
            yield _removed(thing)
    if session is not None and session not in {thing.session for thing in found + stored}:
        raise CloudpoolError(f"there is nothing of a session {session} on {method}.")


def _removed(thing: Found) -> str:
    thing.remove()
    return f"{thing.what} of session {thing.session}, {_words(thing.age)} old"


def _kubernetes(chosen: Settings) -> Iterator[Found]:
    """Jobs: their pods and Secrets go with them."""
    from cloudpool.runners.kubernetes_api import OURS, SESSION, Cluster

    cluster = Cluster(chosen)
    now = dt.datetime.now(dt.UTC)
    for job in cluster.list("jobs", labelSelector=OURS)["items"]:
        meta, status = job["metadata"], job.get("status", {})
        made = dt.datetime.fromisoformat(meta["creationTimestamp"])
        is_over = any(
            c["type"] in ("Complete", "Failed") and c["status"] == "True"
            for c in status.get("conditions", ())
        )
        what = f"Job {meta['name']}"
        yield Found(
            meta["labels"][SESSION],
            what,
            now - made,
            bool(status.get("active")),
            is_over,
            partial(cluster.remove, meta["name"]),
        )


def _docker(_: Settings) -> Iterator[Found]:
    """Containers, running or not."""
    from cloudpool.runners.docker import LABEL, connect

    now = dt.datetime.now(dt.UTC)
    for container in connect("gc --on docker").containers.list(all=True, filters={"label": LABEL}):
        made = dt.datetime.fromisoformat(container.attrs["Created"])
        is_active = container.status in ("created", "running", "restarting", "paused")
        what = f"container {container.name}"

        def remove(container: Any = container) -> None:
            container.remove(force=True)

        yield Found(container.labels[LABEL], what, now - made, is_active, not is_active, remove)


def _stored(chosen: Settings) -> Iterator[Found]:
    """What is in the storage of blob_url. No engine tells whether its session lives: it goes by age alone."""
    base = Place.base(chosen)
    if base is None:
        return
    now = dt.datetime.now(dt.UTC)
    for session, began, remove in bucket.sessions(base):
        what = f"payloads in {chosen.blob_url}"
        yield Found(session, what, now - began, is_active=False, is_over=False, remove=remove)


def _lambda(_: Settings) -> Iterator[Found]:
    """Invocations alone, and those cannot be listed or ended from outside."""
    yield from ()


ENGINES: dict[str, Callable[[Settings], Iterator[Found]]] = {
    "kubernetes": _kubernetes,
    "docker": _docker,
    "lambda": _lambda,
}
REMARKS = {
    "lambda": "sessions leave nothing on Lambda: invocations of a program that has crashed end by themselves when its\n"
    "server has not heard of it for a lease (lease_s), and at the latest at the function's timeout."
}


def _words(age: dt.timedelta) -> str:
    return str(dt.timedelta(seconds=int(age.total_seconds())))
