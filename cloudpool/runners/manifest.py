"""What a far process must know before it can unpickle anything: which files, which environment, which versions."""

from __future__ import annotations

import marshal
import os
import re
import struct
import sys
import time
import warnings
from functools import cache
from importlib import metadata
from multiprocessing import spawn
from typing import Any, NamedTuple

from cloudpool import serialize, settings
from cloudpool.host import bundle, identity, parcels
from cloudpool.host.membership import Session

_SIZE = struct.Struct("!I")
LOOK_S = 1.0  # a file that changes is seen that late
# What belongs to this machine, or to whoever runs the program here.
STAYS = frozenset({
    "HOME", "HOSTNAME", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "TERM", "TMPDIR", "USER", "VIRTUAL_ENV", "_",
    "DISPLAY", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "CLOUDPOOL_REDIS_URL",
    "CI_CACHE_DIR", "INVOCATION_ID", "JOURNAL_STREAM", "MAIL",
})  # fmt: skip
STAYS_BY_PREFIX = ("AWS_", "DBUS_", "DOCKER_", "GOOGLE_", "AZURE_", "KUBE", "SSH_", "XDG_")
SECRET = re.compile(
    r"(PASS(WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|CREDENTIALS?|(API|PRIVATE|SECRET|ACCESS)KEY|(^|_)(KEY|PAT|AUTH|DSN))(_|$)",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(r"[a-z]://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)  # scheme://user:password@


class Manifest(NamedTuple):
    """One launch's surroundings. `folders` are the root's paths that the bundle holds."""

    versions: dict[str, str]
    bundle: str
    folders: list[str]
    environ: dict[str, str]
    pythonpath: list[str]
    umask: int
    modules: list[str]
    settings: dict[str, object]
    packages: dict[str, str]  # versions that must be the same there, where that is asked for

    @classmethod
    def of_this_process(cls, session: Session) -> Manifest:
        """Also puts the bundle into the server, where it is not there yet."""
        name, folders = _arrived[:2] if _arrived is not None else _sent(session)
        pythonpath = [at_home(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        imported = modules()
        wanted = distributions(imported) if settings.current().packages == "check" else {}
        return cls(
            versions(),
            name,
            folders,
            environ(),
            pythonpath,
            _umask(),
            imported,
            settings.current().values(),
            wanted,
        )

    def encode(self) -> bytes:
        data = marshal.dumps(tuple(self))
        return _SIZE.pack(len(data)) + data

    @classmethod
    def decode(cls, payload: bytes) -> tuple[Manifest, memoryview]:
        """The manifest, and what follows it."""
        (size,) = _SIZE.unpack_from(payload)
        fields: Any = marshal.loads(payload[_SIZE.size : _SIZE.size + size])
        return cls(*fields), memoryview(payload)[_SIZE.size + size :]


@cache
def versions() -> dict[str, str]:
    """What must agree on both sides: pickles of functions by value are of one Python, messages of one cloudpool."""
    ours = sys.modules[
        "cloudpool"
    ]  # the face, which is above this floor: nothing of it is used but its version
    return {
        "Python": "{}.{}".format(*sys.version_info[:2]),
        "cloudpool": ours.__version__,
        "cloudpickle": metadata.version("cloudpickle"),
    }


def environ() -> dict[str, str]:
    """The environment as a child here would have it, without secrets and without what is this machine's."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in STAYS
        and not name.startswith(STAYS_BY_PREFIX)
        and not SECRET.search(name)
        and not SECRET_VALUE.search(value)
    }


def modules() -> list[str]:
    """The installed packages that this process has imported, by their top names."""
    installed = []
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if "." not in name and origin and "site-packages" in origin and name != "cloudpool":
            installed.append(name)
    return sorted(installed)


def distributions(modules: list[str]) -> dict[str, str]:
    """The versions of the distributions that these modules belong to."""
    providers = metadata.packages_distributions()
    names = {name for module in modules for name in providers.get(module, ())}
    return {name: metadata.version(name) for name in sorted(names)}


def differing(wanted: dict[str, str]) -> list[str]:
    """In words, those of which this host has another version, or none."""
    found = []
    for name, version in wanted.items():
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = "none"
        if here != version:
            found.append(f"{name} {version} (here: {here})")
    return found


def new_pid(session: Session) -> int:
    number: int = session.channel().call("INCR", session.keys.pids)
    if session.ttl_ms:
        session.channel().expire(session.keys.pids)
    return identity.FIRST + number


# -- what stands in the server for the far side ---------------------------------------------------------------------


def send_payload(session: Session, process_id: str, payload: bytes) -> None:
    session.send(process_id, payload)


def payload(session: Session, process_id: str) -> bytes:
    return b"".join(session.fetch(process_id))


def forget_payload(session: Session, process_id: str) -> None:
    """It is read once."""
    session.carrier.unstow(session.channel().call_many, process_id)
    session.channel().post("DEL", parcels.content(session.keys, process_id))


def files(session: Session, name: str) -> bytes:
    return b"".join(session.fetch(f"bundle.{name}"))


_arrived: tuple[str, list[str], str] | None = (
    None  # on a far host: the bundle, its folders, where it is there
)


def arrived(name: str, folders: list[str], place: str) -> None:
    """This process is on a far host: those that it starts elsewhere have the same files as it has."""
    global _arrived
    _arrived = name, folders, place


def at_home(path: str) -> str:
    """What a path in the bundle's place on this host is at the root's."""
    if _arrived is not None and path.startswith(_arrived[2] + os.sep):
        return path[len(_arrived[2]) :]
    return path


def preparation(name: str) -> dict[str, Any]:
    """multiprocessing.spawn's preparation data, with the root's paths."""
    data: dict[str, Any] = spawn.get_preparation_data(name)
    if not has_main(data):
        data.pop("init_main_from_path", None)
        serialize.send_main_by_value()
    data["sys_path"] = [at_home(path) for path in data.get("sys_path", ())]
    for key in ("dir", "orig_dir", "init_main_from_path"):
        if data.get(key):
            data[key] = at_home(data[key])
    return data


def has_main(data: dict[str, Any]) -> bool:
    """Whether spawn can make a `__main__` of these data: not of program text, a prompt's or stdin's, nor a package's."""
    name = data.get("init_main_from_name")
    if name is not None:
        return not f".{name}".endswith(".__main__")  # spawn leaves those alone
    return os.path.isfile(data.get("init_main_from_path", ""))


_last: tuple[str, float, tuple[Any, ...], str, list[str]] | None = None


def _sent(session: Session) -> tuple[str, list[str]]:
    """The bundle's name and folders; it is packed and sent only when a file has changed since."""
    global _last
    now = time.monotonic()
    if _last is not None and _last[0] == session.info.id and now - _last[1] < LOOK_S:
        return _last[3:]
    beside = _folder()
    folders = bundle.places(sys.path, beside)
    selection = bundle.Selection(folders, beside, settings.current().files)
    state = selection.signature()
    if _last is None or (_last[0], _last[2]) != (session.info.id, state):
        name, data = selection.pack()
        for pattern in selection.unmatched:
            told = f"nothing matches {pattern!r} of CLOUDPOOL_FILES in {beside}: none of it travels to far hosts."
            warnings.warn(told, stacklevel=settings.outside())
        session.send(f"bundle.{name}", data)
        _last = session.info.id, now, state, name, folders
    else:
        _last = session.info.id, now, state, *_last[3:]
    return _last[3:]


def _folder() -> str:
    """The folder beside the script; for program text and prompts the current one."""
    path: str | None = getattr(sys.modules["__main__"], "__file__", None)
    if path is None or not os.path.exists(path) or "site-packages" in path:
        return os.getcwd()
    return os.path.dirname(os.path.abspath(path))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
