"""Threads that look after channels while their owners are at other things.

    post --notice--> lookout ... every 50 ms: replies, or what was cut again; none where no connection is ever cut
    hold --notice--> sender  ... 1 ms later:  puts that were held back for those behind them

One ends when there has been nothing to do for a second, and before a fork, like the feeder thread of a stdlib Queue that
has been emptied.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cloudpool.errors import CloudpoolError
from cloudpool.store.wire import ReplyError

IDLE_S = 1.0


Channel = TypeVar("Channel")


class Lookout(Generic[Channel]):
    """A process's; a forked child makes its own. Made and told by the session.

    `look` at a channel, some time after it was noticed, says whether it is to be looked at again.
    """

    def __init__(self, name: str, pause_s: float, look: Callable[[Channel], bool]) -> None:
        self._name, self._pause_s, self._look = name, pause_s, look
        self._lock = threading.RLock()  # a signal handler may fork in the middle of a notice
        self._noticed: set[Channel] = set()
        self._thread: threading.Thread | None = None
        self._is_there = threading.Event()  # something to do
        self._leaves = threading.Event()

    def notice(self, channel: Channel) -> None:
        """Something was posted, or held back."""
        if channel in self._noticed and self._thread is not None:
            return
        with self._lock:
            self._noticed.add(channel)
            self._is_there.set()
            if self._thread is None and not self._leaves.is_set():
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"cloudpool-{self._name}", daemon=True)
        thread.start()
        self._thread = thread  # only now: who stops it joins it

    def _run(self) -> None:
        while True:
            if not self._is_there.wait(IDLE_S):
                with self._lock:
                    if not self._noticed:
                        self._thread = None
                        return
            if self._leaves.wait(self._pause_s):
                return
            self._is_there.clear()
            for channel in list(self._noticed):
                self._noticed.discard(channel)
                try:
                    is_out = self._look(channel)
                except (CloudpoolError, ReplyError):  # its owner's next command meets it, too
                    continue
                if is_out:
                    self._noticed.add(channel)
                    self._is_there.set()

    def stop(self) -> None:
        """Have no thread: before a fork, and at the session's end."""
        self._leaves.set()
        self._is_there.set()
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
                self._is_there.set()
                self._start()
