"""Uploads of the root's agent: children of its own take them to the bucket, since the agent itself must not wait.

"wanted" (a letter) --> agent --fork--> child --> bucket
                          ^--why not, the end---' (a pipe)        then the agent says that it is there
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from cloudpool.errors import BlobStoreError
from cloudpool.host.parcels import Carrier
from cloudpool.store.embedded import die_with

if TYPE_CHECKING:
    from cloudpool.host.agent import Agent

MOST_AT_ONCE = 8
DONE = b"\0"
KILLED = "the program that was to put a payload into the storage was killed"
Told = Callable[[str, int, str], None]  # of a blob, its size: why it could not be put there, or ""


class Porter:
    """Owned by the agent of the root's host, with its children."""

    def __init__(self, agent: Agent, carrier: Carrier, told: Told) -> None:
        self._agent, self._carrier, self._told = agent, carrier, told
        self._children: dict[str, tuple[int, int]] = {}  # by blob: pid, our end of its pipe
        self._waiting: dict[str, int] = {}  # blobs and their sizes
        self._leashed, self._leash = os.pipe()  # when the agent ends, the kernel ends them

    def upload(self, name: str, size: int) -> None:
        """Have it put into the bucket, once, however often this is asked for meanwhile."""
        if name not in self._children:
            self._waiting[name] = size
            self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._children) < MOST_AT_ONCE:
            name, size = next(iter(self._waiting.items()))
            try:
                self._carrier.bucket()  # what it imports is imported once
                pid, said = self._fork(name)
            except BlobStoreError as error:
                del self._waiting[name]
                self._told(name, size, str(error))
                continue
            except OSError as error:  # no descriptor, no room for a process: who waits for it asks again
                told = f"cloudpool: {name} cannot be put into the storage, trying again: {error}"
                print(told, file=sys.stderr, flush=True)
                return
            del self._waiting[name]
            self._children[name] = pid, said
            self._agent.hear(said, lambda name=name, size=size: self._ended(name, size))  # type: ignore[misc]

    def _fork(self, name: str) -> tuple[int, int]:
        """The child that carries it: its pid, our end of its pipe. Raises OSError; then nothing is left of it."""
        said, says = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                self._carry(name, says)
        except BaseException:
            os.close(said)
            raise
        finally:
            os.close(says)
        return pid, said

    def _carry(self, name: str, says: int) -> None:
        """In the child; does not return. It has no descriptor of the agent's: locks and sockets end with that."""
        why = ""
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for fd in map(int, os.listdir("/proc/self/fd")):
                if fd > 2 and fd not in (self._leashed, says):
                    with suppress(OSError):
                        os.close(fd)
            die_with(self._leashed)
            with open(os.path.join(self._agent.folder, name), "rb") as file:
                content = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            self._carrier.stow(name, memoryview(content))
        except BaseException as error:  # noqa: BLE001 - whatever it is, who waits is told
            why = str(error) or repr(error)
        finally:
            with suppress(OSError):
                os.write(says, why.encode() or DONE)
            os._exit(0)

    def _ended(self, name: str, size: int) -> None:
        pid, said = self._children.pop(name)
        words = os.read(said, 65536).decode(errors="replace")
        self._agent.unhear(said)
        os.close(said)
        os.waitpid(pid, 0)
        self._told(name, size, "" if words == DONE.decode() else words or KILLED)
        self._begin()

    def close(self) -> None:
        """Nothing is put there any more."""
        self._waiting.clear()
        for pid, said in self._children.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._agent.unhear(said)
            os.close(said)
        self._children.clear()
