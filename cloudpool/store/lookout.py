"""A thread that looks after what idle threads have posted: a put that was cut is sent again, though its thread sleeps.

    post --notice--> Lookout ... every 50 ms: channels whose owner is at other things --look_after--> replies, or again

Only where connections can be cut: none for the embedded server. It ends when nothing has been posted for a second, and
before a fork, like the feeder thread of a stdlib Queue that has been emptied.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

from cloudpool.errors import CloudpoolError
from cloudpool.store.wire import ReplyError

PAUSE_S = 0.05
IDLE = 20  # pauses without anything to do


class Posting(Protocol):
    """A channel."""

    def look_after(self) -> bool: ...


class Lookout:
    """A process's; a forked child makes its own. Made and told by the session."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may fork in the middle of a notice
        self._noticed: set[Posting] = set()
        self._thread: threading.Thread | None = None
        self._leaves = threading.Event()

    def notice(self, channel: Posting) -> None:
        """Something was posted."""
        if channel in self._noticed and self._thread is not None:
            return
        with self._lock:
            self._noticed.add(channel)
            if self._thread is None and not self._leaves.is_set():
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="cloudpool-lookout", daemon=True)
        thread.start()
        self._thread = thread  # only now: who stops it joins it

    def _run(self) -> None:
        idle = 0
        while not self._leaves.wait(PAUSE_S):
            idle = 0 if self._noticed else idle + 1
            for channel in list(self._noticed):
                self._noticed.discard(channel)
                try:
                    is_out = channel.look_after()
                except (CloudpoolError, ReplyError):  # its owner's next command meets it, too
                    continue
                if is_out:
                    self._noticed.add(channel)
            with self._lock:
                if idle >= IDLE and not self._noticed:
                    self._thread = None
                    return

    def stop(self) -> None:
        """Have no thread: before a fork, and at the session's end."""
        self._leaves.set()
        with self._lock:  # not in the middle of its start
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
            while os.path.exists(f"/proc/self/task/{thread.native_id}"):
                pass  # joined, it may still be on its way out of the kernel, whose count of threads Python looks at

    def go_on(self) -> None:
        """In the parent, after a fork."""
        with self._lock:
            self._leaves.clear()
            self._thread = None
            if self._noticed:
                self._start()
