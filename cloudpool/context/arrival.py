"""A far process's first moments: in a fork of the zygote, it becomes what a spawned process would be at home.

join the session -> payload: manifest, preparation data, prologue, process -> files, environment, __main__ -> _bootstrap
"""

from __future__ import annotations

import importlib
import io
import marshal
import os
import pickle
import sys
import types
from multiprocessing import process, spawn
from typing import Any

from cloudpool import serialize, settings
from cloudpool.context import hints, imports, last_words, lost_files
from cloudpool.errors import CloudpoolError
from cloudpool.host import bundle, identity, session as sessions
from cloudpool.host.session import Key, SessionInfo
from cloudpool.runners import manifest
from cloudpool.runners.manifest import Manifest
from cloudpool.runners.questions import Questions
from cloudpool.settings import ServerUrl
from cloudpool.store.bucket import Place

# What processes need, imported once a host: by the zygote that they are forked from.
PRELOADED = (
    "cloudpickle", "cloudpool.context.managers", "cloudpool.context.worker", "cloudpool.sync.barrier",
    "cloudpool.sync.condition", "cloudpool.sync.event", "cloudpool.sync.pipe", "cloudpool.sync.queue",
    "cloudpool.sync.semaphore", "cloudpool.sync.sharedctypes",
)  # fmt: skip


def run(
    process_id: str, pid: int, ppid: int, parent_sentinel: int, folder: str, method: str, card: bytes
) -> int:
    """Be that process; its exit code. What cannot be done is a traceback on stderr, as under spawn."""
    identity.assume(pid, ppid)
    session_id, session_folder, url, lease_s, durable, key, where, until = marshal.loads(card)
    server, place = ServerUrl(url) or None, Place.decode(where)
    sessions.join(
        SessionInfo(
            session_id,
            session_folder,
            server,
            lease_s,
            durable,
            Key(key),
            is_far=True,
            place=place,
            until=until,
        )
    )
    session = sessions.current()
    head, rest = Manifest.decode(manifest.payload(session, process_id))
    _agree(head.versions)
    if missing := manifest.differing(head.packages):
        raise CloudpoolError(
            f"this host lacks what the program uses: {', '.join(missing)}.\n"
            "Build an image with the same: python -m cloudpool image --all; or let packages be sent: CLOUDPOOL_PACKAGES=ship."
        )
    files = bundle.unpacked(folder, head.bundle, lambda: manifest.files(session, head.bundle))
    manifest.arrived(head.bundle, head.folders, files)
    os.umask(head.umask)
    there = bundle.Map(head.folders, files)
    os.environ.update(head.environ)
    if head.pythonpath:
        os.environ["PYTHONPATH"] = os.pathsep.join(there.own(head.pythonpath))
    settings.adopt(head.settings)
    last_words.arrived(os.path.join(session_folder, "last." + process_id))
    process.current_process()._inheriting = True  # as spawn has it
    # Not the program that the host runs.
    sys.modules["__main__"] = sys.modules["__mp_main__"] = types.ModuleType("__main__")
    body = io.BytesIO(rest)
    preparation = there.preparation(pickle.load(body))
    if not manifest.has_main(preparation):
        serialize.send_main_by_value()  # as it came
    function, arguments = pickle.load(body)
    sys.path[:] = preparation["sys_path"]
    function(*arguments)
    questions = Questions(session, method)
    hints.arrived(questions)
    lost_files.arrived(files, session_folder)
    _customize(files)
    if settings.current().packages == "ship":
        sys.meta_path.append(imports.Shipped(questions, folder))
    spawn.prepare(preparation)
    child = serialize.loads(body.read())
    del process.current_process()._inheriting
    child.run = hints.noting(child.run)
    session.arrived(process_id, child.name)
    manifest.forget_payload(session, process_id)
    return int(child._bootstrap(parent_sentinel))


def _agree(theirs: dict[str, str]) -> None:
    ours = manifest.versions()
    if differing := [name for name in theirs if theirs[name] != ours[name]]:
        name = differing[0]
        raise CloudpoolError(
            f"this host has {name} {ours[name]}, and the program that started the process has {theirs[name]}.\n"
            "Build an image with the same: python -m cloudpool image."
        )


def _customize(files: str) -> None:
    """The program's own sitecustomize, which an interpreter that starts with this sys.path imports."""
    for name in ("sitecustomize", "usercustomize"):
        spec: Any = importlib.util.find_spec(name)
        if spec is not None and (spec.origin or "").startswith(files):
            sys.modules.pop(name, None)
            importlib.import_module(name)
