"""Which shared objects this process holds: the agent frees an object when no process and no payload holds it.

A handle counts from its making (or unpickling, or the fork that copied it) to its last reference's end. A handle in a
message is held by the message until it is unpickled; one in anything that can be read again, or by a stdlib pickle, is
pinned: it stays until the session's end. In doubt a leak, never a loss.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from multiprocessing.context import get_spawning_popen

from cloudpool.host import mail

Tell = Callable[..., None]

Handle = tuple[str, str]  # an object's id, and the name of this handle's transit


class _Pickling(threading.local):
    """What this thread does with handles at the moment."""

    departures: list[Handle] | None = None
    arrivals: list[Handle] | None = None
    sent: Sequence[Handle] = ()


_pickling = _Pickling()


class Holdings:
    """Counts of one process's handles by object id. Told to the agent when an object's count ends, and at forks."""

    def __init__(
        self, tell: Tell, wait: Callable[[], object], name: Callable[[], str], lock: threading.RLock
    ) -> None:
        self._tell = tell
        self._wait = wait  # until the agent has dealt with what it was told
        self._name = name  # this process's in the session
        self._counts: dict[str, int] = {}
        self._told: set[str] = set()
        self.dropped: list[str] = []  # what was held once, for whoever remembers things of it
        self._kept: dict[str, int] = {}  # threads that wait at it
        # The session's. Held while the agent is told, so in the order in which it was so. A garbage collection within may
        # drop a handle, in the same thread.
        self._lock = lock
        self._transits = itertools.count(1)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def ids(self) -> list[str]:
        """All that is held, now known to the agent."""
        self._told = set(self._counts)
        return list(self._counts)

    def hold(self, object_id: str) -> None:
        with self._lock:
            self._counts[object_id] = self._counts.get(object_id, 0) + 1

    def drop(self, object_id: str) -> bool:
        """One handle less; the last one tells the agent, and is True."""
        with self._lock:
            left = self._counts.get(object_id, 0) - 1
            if left > 0:
                self._counts[object_id] = left
                return False
            if self._counts.pop(object_id, None) is None or object_id in self._kept:
                return False
            self._dropped(object_id)
        return True

    def _dropped(self, object_id: str) -> None:
        self._told.discard(object_id)
        self.dropped.append(object_id)
        self._tell("drop", object_id)

    def keep(self, object_id: str) -> None:
        """A thread waits at it: it stays held until `unkeep`, as a descriptor does that another thread closes. A forked child
        has no such thread.
        """
        with self._lock:
            self._kept[object_id] = self._kept.get(object_id, 0) + 1

    def unkeep(self, object_id: str) -> None:
        with self._lock:
            self._kept[object_id] -= 1
            if self._kept[object_id]:
                return
            del self._kept[object_id]
            if object_id not in self._counts:
                self._dropped(object_id)

    def announce(self, ticket: str) -> None:
        """Tell the agent, before a fork, that `ticket` will hold all that this process holds."""
        self.tell_all()
        self._tell("ticket", ticket)

    def tell_all(self) -> None:
        """Have the agent know of all that is held."""
        with self._lock:
            # No comprehension: see Channel._run_all_again.
            new = list(itertools.filterfalse(self._told.__contains__, list(self._counts)))
            for ids in mail.batches(new):
                self._tell("holds", ids)
            for object_id in new:
                if object_id in self._counts or object_id in self._kept:
                    self._told.add(object_id)  # only now: a handler may raise before
                else:  # dropped by a garbage collection within, which has told too early
                    self._tell("drop", object_id)

    def inherit(self, parents: Holdings) -> None:
        """Be the forked child's: the same handles, counted afresh."""
        self._counts = dict(parents._counts)

    # -- travel -----------------------------------------------------------------------------------------------------

    def in_message(self, read_once: bool, into: str = "") -> Departing:
        """Handles pickled meanwhile go into a payload; with `read_once` one that is unpickled once (a queue's item, a
        pipe's message), and then they are its until then, or until the object `into` goes, where it waits.

        Gives what is to be called before each attempt to pickle.
        """
        return Departing(self, read_once, into)

    def _sent(self, departures: list[Handle], into: str) -> None:
        _pickling.sent = departures
        try:
            with self._lock:
                for object_id, transit in departures:
                    self._told.add(object_id)
                    self._tell("send", object_id, transit, into)
            # Before anyone can get it: on another host it may else arrive, and go, before it has departed here.
            self._wait()
        except BaseException:  # a signal handler's: there is no message
            self.recall()
            raise

    def in_no_message(self) -> None:
        """This thread's next message is bytes, which hold nothing: to recall it must not recall the one before."""
        _pickling.sent = ()

    def recall(self) -> None:
        """This thread's last message has not been taken: it holds nothing."""
        sent, _pickling.sent = _pickling.sent, ()
        with self._lock:
            for object_id, transit in sent:
                self._tell("got", object_id, transit)

    def in_receipt(self) -> Arriving:
        """Handles unpickled meanwhile are held by their message until this ends: it may go back and be read by another."""
        return Arriving(self)

    def depart(self, object_id: str) -> str | None:
        """A handle is being pickled. Returns the name of its transit, for `arrive`, when it goes into a message."""
        popen = get_spawning_popen()
        if popen is not None and hasattr(popen, "shared_ids"):
            popen.shared_ids.append(object_id)
            return None
        departures = _pickling.departures
        if departures is None:
            self._tell("pin", object_id)
            return None
        transit = f"{object_id}>{self._name()}.{next(self._transits)}"
        departures.append((object_id, transit))
        return transit

    def arrive(self, object_id: str, transit: str | None) -> None:
        """A handle has been unpickled here."""
        with self._lock:
            self.hold(object_id)
            if transit is None:
                return
            arrivals = _pickling.arrivals
            if arrivals is not None:
                self.hold(object_id)
                arrivals.append((object_id, transit))
                return
            self._got(object_id, transit)

    def _got(self, object_id: str, transit: str) -> None:
        with self._lock:
            self._told.add(object_id)
            self._tell("got", object_id, transit)


# Classes of their own, not generators: each message enters one.


class Departing:
    """See Holdings.in_message."""

    __slots__ = ("_before", "_departures", "_holdings", "_into")

    def __init__(self, holdings: Holdings, read_once: bool, into: str) -> None:
        self._holdings, self._into = holdings, into
        self._departures: list[Handle] | None = [] if read_once else None

    def __enter__(self) -> Callable[[], object]:
        self._before, _pickling.departures = _pickling.departures, self._departures
        _pickling.sent = ()
        return self._departures.clear if self._departures is not None else _nothing

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _pickling.departures = self._before
        if kind is None and self._departures:
            self._holdings._sent(self._departures, self._into)


class Arriving:
    """See Holdings.in_receipt."""

    __slots__ = ("_arrivals", "_before", "_holdings")

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._arrivals: list[Handle] = []

    def __enter__(self) -> None:
        self._before, _pickling.arrivals = _pickling.arrivals, self._arrivals

    def __exit__(self, *_: object) -> None:
        _pickling.arrivals = self._before
        for object_id, transit in self._arrivals:
            self._holdings._got(object_id, transit)
            self._holdings.drop(object_id)  # held meanwhile, as a handle may have gone already


def _nothing() -> None:
    pass
