"""What goes wrong in cloudpool: one root, a flat tree below it. A class's docstring is its message when none is given.

Where multiprocessing has a class for it (TimeoutError, AuthenticationError, queue.Empty, EOFError, ...), that one is
raised instead, in the stdlib's own words, since programs match on them.

This module imports nothing: whoever catches an error has not used cloudpool yet.
"""

from __future__ import annotations

__all__ = [
    "BlobStoreError",
    "CloudpoolError",
    "FormatError",
    "MissingExtraError",
    "ObjectChangedError",
    "RunnerError",
    "ServerError",
    "ServerOutOfMemory",
    "SessionLostError",
    "SettingsError",
    "WorkerLostError",
]

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost milliseconds


class CloudpoolError(Exception):
    """cloudpool could not do what was asked."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or (type(self).__doc__ or type(self).__name__,)))


class SettingsError(CloudpoolError, ValueError):
    """A setting has a value that cloudpool cannot use."""


class ServerError(CloudpoolError):
    """The Redis or Valkey server cannot be started, reached or logged in to."""


class ServerOutOfMemory(CloudpoolError):
    """The Redis or Valkey server has no memory left: give it more (maxmemory), or keep less in queues and managers."""


class SessionLostError(CloudpoolError):
    """The session's state is gone from the server, so its queues, locks and results are too: start the program again."""


class BlobStoreError(CloudpoolError, OSError):
    """The storage for large payloads (blob_url) refuses one, or cannot be reached."""


class RunnerError(CloudpoolError):
    """The engine that far hosts come from refuses them, or cannot be reached."""

    is_said = False  # on stderr: a program may wait for what its workers send, and never ask a Pool for their results


class MissingExtraError(CloudpoolError, ImportError):
    """Packages that cloudpool does not need by itself are missing.

    `extra` is the name in `pip install -e '.[extra]'`; `purpose` is what asked for it, as the subject of a sentence.
    """

    def __init__(self, extra: str, purpose: str = "This") -> None:
        super().__init__(
            f"{purpose} needs packages that are not installed: pip install {_requirement(extra)}"
        )
        self.extra = extra
        self.purpose = purpose

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.extra, self.purpose)


def _requirement(extra: str) -> str:
    """How pip is to name this very cloudpool: by its folder, where it was installed from one."""
    import json
    from contextlib import suppress
    from importlib import metadata
    from urllib.parse import unquote, urlsplit

    with suppress(metadata.PackageNotFoundError, ValueError):
        source = json.loads(metadata.distribution("cloudpool").read_text("direct_url.json") or "{}")
        url = urlsplit(source.get("url", ""))
        if url.scheme == "file" and "dir_info" in source:
            option = "-e " if source["dir_info"].get("editable") else ""
            return f"{option}'{unquote(url.path)}[{extra}]'"
    return f"'cloudpool[{extra}]'"


class FormatError(CloudpoolError, ValueError):
    """An object is not what its format says: broken, cut short, or of another format."""


class ObjectChangedError(CloudpoolError, OSError):
    """An object was written again between planning and reading, and two versions are never mixed.

    `url` is the object, `etag` the version that was planned with.
    """

    def __init__(self, url: str, etag: str | None = None) -> None:
        super().__init__(
            f"{url} has changed since partition() looked at it (it had the version {etag}): call partition() again"
        )
        self.url = url
        self.etag = etag

    def __reduce__(self) -> tuple[type[ObjectChangedError], tuple[str, str | None]]:
        return type(self), (self.url, self.etag)


class _Loss(CloudpoolError):
    """All of WorkerLostError but its other base class; what is not known is None."""

    def __init__(
        self,
        *args: object,
        item: int | None = None,
        about: str | None = None,
        attempts: int | None = None,
        exitcode: int | None = None,
        signal: str | None = None,
        host: str | None = None,
        last_lines: tuple[str, ...] = (),
    ) -> None:
        super().__init__(*args)
        self.item = item  # its index in the call; of several that were not told apart the first one's
        self.about = about  # a short repr of the item, or of the call
        self.attempts = attempts
        self.exitcode = exitcode  # of the last worker, as Process.exitcode
        self.signal = signal  # its name, when a signal ended that worker
        self.host = host
        self.last_lines = last_lines  # that the last worker printed


if TYPE_CHECKING:
    from concurrent.futures.process import BrokenProcessPool

    class WorkerLostError(_Loss, BrokenProcessPool):
        """A worker process died, again and again, in the same task."""

else:

    def __getattr__(name: str) -> type[CloudpoolError]:
        """Make WorkerLostError when it is first asked for: its base class drags in all of concurrent.futures."""
        if name != "WorkerLostError":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from concurrent.futures.process import BrokenProcessPool as Base
        except RuntimeError:  # the main thread has ended: nobody can import that any more, and so catch it
            from concurrent.futures import BrokenExecutor as Base

        body = {
            "__module__": __name__,
            "__doc__": "A worker process died, again and again, in the same task.",
        }
        made: type[CloudpoolError] = type(name, (_Loss, Base), body)
        return globals().setdefault(name, made)  # another thread's, if that was first
