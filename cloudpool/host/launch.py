"""Start a session: its folder, its agent and, without a redis_url, its server. Only the root needs this; or find one."""

from __future__ import annotations

import marshal
import os
import select
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import util
from typing import TYPE_CHECKING

from cloudpool import methods, settings
from cloudpool.errors import MissingExtraError, RunnerError, ServerError
from cloudpool.host import folder as folders, mail
from cloudpool.host.interpreter import import_places
from cloudpool.host.session import Key, SessionInfo
from cloudpool.settings import ServerUrl
from cloudpool.store.binary import find_server
from cloudpool.store.bucket import Bucket, Place

if TYPE_CHECKING:
    from cloudpool.host.kept_server import KeptServer

START_TIMEOUT_S = 10.0


class Launch:
    """A session whose agent and server get ready: what can be done meanwhile, such as imports, costs no time."""

    def __init__(
        self, info: SessionInfo, method: str | None, pid: int, said: int, kept: KeptServer | None
    ) -> None:
        self.info, self.method = info, method
        self.root_pid = os.getpid()
        self._pid, self._said, self._kept = pid, said, kept

    def finish(self) -> SessionInfo:
        """The session, ready for use. Blocks START_TIMEOUT_S at most. Raises ServerError; leaves nothing then."""
        try:
            import cloudpool.host.membership  # noqa: F401 - what comes next

            said = _hear(self._said)
            with suppress(ChildProcessError):  # the program may have waited for whatever has ended
                os.waitpid(self._pid, 0)  # the agent has forked itself free: it is nobody's child but init's
            words = said.decode(errors="replace").strip()
            if not said.endswith(b"ready\n"):
                raise ServerError(words or "the session's agent ended before it was ready.")
            if warning := words.removesuffix("ready"):
                warnings.warn(warning, RuntimeWarning, stacklevel=settings.outside())
        except BaseException:
            _remove(self.info)
            raise
        finally:
            self.let_go()
        return self.info

    def let_go(self) -> None:
        """Close this process's descriptors of it."""
        os.close(self._said)
        if self._kept is not None:
            self._kept.let_go()


def begin(method: str | None = None) -> Launch:
    """Start a session whose root is this process; its default start method is `method`, or the setting.

    Raises ServerError, RunnerError, SettingsError; leaves nothing then.
    """
    chosen = settings.current()
    provider = _server_provider(method or chosen.start_method) if not chosen.redis_url else None
    if chosen.redis_url and not chosen.allow_plain_tcp:
        _refuse_open_server(chosen.redis_url)
    if chosen.redis_url:
        _check_sealing()
    if chosen.serializer == "dill":
        from cloudpool import serialize

        serialize.check_dill()
    if chosen.durable and not chosen.redis_url:
        raise ServerError(
            "CLOUDPOOL_DURABLE is set, and the server that starts by itself has no replica.\n"
            "Set CLOUDPOOL_REDIS_URL to a server with one, or unset CLOUDPOOL_DURABLE."
        )
    if provider:
        _check_sealing(
            f"The server that hosts of {method or chosen.start_method} reach",
            str(method or chosen.start_method),
        )
    if chosen.blob_url:
        _check_sealing("Storage for large payloads (blob_url)")
    binary = "" if chosen.redis_url or provider else find_server()
    with _standard_taken():
        folder, making = folders.make()
    session_id = os.path.basename(folder).removeprefix(folders.PREFIX)
    is_sealed = chosen.redis_url or provider or chosen.blob_url
    key = Key(os.urandom(32) if is_sealed else b"")
    info = SessionInfo(session_id, folder, chosen.redis_url, chosen.lease_s, chosen.durable, key)
    kept = None
    try:
        info = info._replace(place=Place.of(chosen, session_id))
        if info.place and methods.is_far(method or chosen.start_method or ""):
            Bucket(info.place).try_out()
        with _standard_taken():
            if provider:
                from cloudpool.host.kept_server import KeptServer  # few sessions have one

                kept = KeptServer(provider, session_id, folder, chosen)
                info = info._replace(redis_url=kept.url, patience_s=kept.patience_s)
            return Launch(info, method, *_start_agent(info, binary, kept, making), kept)
    except BaseException:
        if kept is not None:
            kept.let_go()
        _remove(info)
        raise
    finally:
        os.close(making)


def _remove(info: SessionInfo) -> None:
    folders.remove(info.folder)
    if info.place is not None:
        info.place.remove_folder()


def _server_provider(method: str | None) -> str | None:
    """The module of a program that starts a server which hosts of that start method can reach, where that is needed."""
    if method is None or not methods.is_far(method):
        return None
    kind = methods.runner(method)
    if getattr(kind, "needs_url", False):
        raise RunnerError(
            f"hosts of {method} reach no server of this machine, and none of their own: set redis_url (CLOUDPOOL_REDIS_URL) to a\n"
            "Redis or Valkey that they and this program reach, as in rediss://USER:PASSWORD@HOST:6379."
        )
    module: str | None = kind.server
    return module


def find(session_id: str) -> SessionInfo | None:
    """The living session of that name, for a guest: who may enter its folder may ask its agent."""
    folder = folders.find(session_id)
    if folder is None:
        return None
    try:
        agent = mail.connect(folder)
    except OSError:  # it is over
        return None
    with agent:
        mail.send(agent, ("where",))
        answer, _ = mail.receive(agent)
    if answer is None:
        return None
    _, url, lease_s, durable, key, where = answer
    server, place = ServerUrl(url) or None, Place.decode(where)
    return SessionInfo(session_id, folder, server, lease_s, durable, Key(key), is_guest=True, place=place)


def _check_sealing(purpose: str = "A server of your own (redis_url)", extra: str = "redis") -> None:
    try:
        import cloudpool.sealing  # noqa: F401 - is it possible?
    except ImportError:
        raise MissingExtraError(extra, purpose) from None


def _refuse_open_server(url: str) -> None:
    """Passwords must not cross a network in the clear, and what others reach should know its users and their rights."""
    from urllib.parse import parse_qs, urlsplit  # not for the many programs without a URL

    if settings.is_loopback(url):
        return
    parts = urlsplit(url)
    if parts.scheme == "redis":
        raise ServerError(
            f"the server at {settings.redacted(url)} is beyond this machine's loopback, and redis:// sends everything in the clear.\n"
            "Use rediss:// (TLS), or set CLOUDPOOL_ALLOW_PLAIN_TCP=1 if the network between is yours alone."
        )
    options = parse_qs(parts.query)
    if not ((parts.username or "username" in options) and (parts.password or "password" in options)):
        raise ServerError(
            f"the server at {settings.redacted(url)} is beyond this machine's loopback, and the URL names no user with a password.\n"
            "`python -m cloudpool acl` prints how to make a user that may do nothing else: name it in rediss://USER:PASSWORD@...\n"
            "Or set CLOUDPOOL_ALLOW_PLAIN_TCP=1 if the network between is yours alone."
        )


def _start_agent(info: SessionInfo, binary: str, kept: KeptServer | None, making: int) -> tuple[int, int]:
    """Its process, before it has forked itself free, and the pipe by which it will say that it is ready.

    It inherits `making`, so that the folder is its own until it has claimed that.
    """
    program = f"import sys; sys.path[:0] = {import_places()!r}; from cloudpool.host.boot import main; main()"
    url_r, url_w = os.pipe()
    said_r, said_w = os.pipe()
    to_close = [url_r, url_w, said_w]
    try:
        parameters = [
            info.id,
            info.folder,
            binary,
            str(os.getpid()),
            str(info.lease_s),
            str(info.durable),
            str(url_r),
            str(said_w),
        ]
        pid = util.spawnv_passfds(
            os.fsencode(sys.executable),
            [sys.executable, "-S", "-E", "-c", program, *parameters],
            (url_r, said_w, making, *((kept.said, kept.leash) if kept is not None else ())),
        )
        # By pipe: a process list must not show the password.
        far = (
            (kept.far_url, kept.patience_s, kept.said, kept.leash) if kept is not None else ("", 0.0, -1, -1)
        )
        url, far_url = str(info.redis_url or ""), str(far[0])
        place = Place.encode(info.place)
        os.write(url_w, marshal.dumps((url, bytes(info.key), far_url, *far[1:], place)))
    except BaseException:
        to_close.append(said_r)
        raise
    finally:
        for fd in to_close:
            os.close(fd)
    return pid, said_r


@contextmanager
def _standard_taken() -> Iterator[None]:
    """What is opened meanwhile is not 0, 1 or 2: the agent takes those for itself, and a program may have closed its own."""
    taken = []
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        taken.append(fd)
    os.close(fd)
    try:
        yield
    finally:
        for fd in taken:
            os.close(fd)


def _hear(fd: int) -> bytes:
    """What the agent says of its start: `ready`, or why not."""
    said = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while not said.endswith(b"ready\n"):
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise ServerError(f"the session's agent and server were not ready within {START_TIMEOUT_S:g} s.")
        data = os.read(fd, 4096)
        if not data:
            break
        said += data
    return said
