"""`multiprocessing.connection.wait` over anything: ends of our pipes, queues, OS sockets, stdlib connections, sentinels."""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Iterable
from typing import Any

from cloudpool.host import session as sessions
from cloudpool.store.channel import Channel
from cloudpool.sync.pipe import Connection
from cloudpool.sync.queue import End, Queue, SimpleQueue
from cloudpool.sync.timeout import check_of_poll

_OURS = (Connection, End, Queue, SimpleQueue)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Those that are ready; blocks until one is, `timeout` seconds at most (None: for ever).

    Of ours the server says which are ready, in one trip, when something has happened: a descriptor alone may lag behind
    what has just been sent, or be ahead of another process that was faster.
    """
    check_of_poll(timeout)
    objects = list(object_list)
    deadline = None if timeout is None else time.monotonic() + timeout
    ours = [thing for thing in objects if isinstance(thing, _OURS)]
    with selectors.PollSelector() as selector:
        for thing in objects:
            if thing not in ours:
                selector.register(thing, selectors.EVENT_READ)
        ready = _ready(ours) + [key.fileobj for key, _ in selector.select(0)]
        while not ready and (deadline is None or time.monotonic() < deadline):
            looks = {thing: selector.register(thing, selectors.EVENT_READ) for thing in ours}
            left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
            # The session may end: `_ready` would find out.
            most = min(left, Channel.SLICE_S if ours else math.inf)
            events = selector.select(None if most == math.inf else most)
            for key in looks.values():  # a look that was answered is sent anew when it is registered again
                selector.unregister(key.fd)
            ready = _ready(ours) + [key.fileobj for key, _ in events if key.fileobj not in looks]
    return [thing for thing in objects if thing in ready]


def _ready(ours: list[Any]) -> list[Any]:
    """Those of ours that have something, in one trip."""
    session = sessions.existing()
    if not ours or session is None:
        return []
    session.check()
    channel = session.channel()
    channel.settle()  # what was put here and cut off must arrive: it may be what is waited for
    there = channel.call_many([("EXISTS", thing._waits_for) for thing in ours])
    return [thing for thing, is_there in zip(ours, there, strict=True) if is_there]
