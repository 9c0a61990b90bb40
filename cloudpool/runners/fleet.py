"""The fleet: which hosts there are, and which process goes to which. One small program beside the root's agent.

    launch, signal, orphan (from agents), up, ended (from hosts) --letters--> fleet --launch, signal, leave--> hosts
                                                                                |  start, states, stop
                                                                                v
                                                                              runner

It gets its orders by stdin, whose end says that the session is over: then it takes away all that it has started.
"""

from __future__ import annotations

import itertools
import json
import marshal
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import AuthenticationError
from typing import Any

from cloudpool import methods, settings
from cloudpool.errors import BlobStoreError, CloudpoolError, RunnerError
from cloudpool.host.card import Card, python
from cloudpool.host.inbox import Inbox, Outbox, Post, fleet_id, host_id
from cloudpool.host.line import FleetLine, LostError, RootEndedError
from cloudpool.host.parcels import Carrier
from cloudpool.host.session import Key, sealer_of
from cloudpool.host.shortage import MIB
from cloudpool.runners import packages
from cloudpool.runners.budget import Budget
from cloudpool.runners.costs import METERED
from cloudpool.runners.plan import Host, Launch, Plan
from cloudpool.runners.runner import OF_MEMORY, Order, Runner
from cloudpool.settings import ServerUrl
from cloudpool.store.bucket import Place
from cloudpool.store.wire import NotYet, ReplyError

LOOK_S = 1.0
GROW_S = 60.0  # after hosts have not come, until more are asked for again
BUDGET_GROW_S = (
    5.0  # after the budget had no room: a host that reports needs less of it than one that is awaited
)


def main() -> None:
    """`python -c "... main()"`, with an order on stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = marshal.load(sys.stdin.buffer)
    # After its own: a runner, and what that needs, may be where only the program looks.
    sys.path += [path for path in order["paths"] if path not in sys.path]
    with suppress(LostError, RootEndedError):  # so is the session
        Fleet(order).run()


class Fleet:
    """The loop: letters, the engine's states once a second, hosts that have been idle for long."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._method, self._home, self._lease_s = order["method"], order["home"], order["lease_s"]
        key, url = Key(order["key"]), ServerUrl(order["url"])
        session, folder = order["session"], order["folder"]
        self._settings = settings.Settings(order["values"], {})
        self._line = FleetLine(session, folder, url, self._lease_s, order["durable"], sys.stdin.fileno())
        self._line.patience_s = order["patience_s"]
        self._line.begin()
        self._sealer, place = sealer_of(key), Place.decode(order["place"])
        self._carrier = Carrier(self._line.keys, self._line.ttl_ms, self._sealer, place)
        self._post_office = Post(self._line.keys, self._line.ttl_ms, self._sealer)
        # By its first host's number: a fleet that takes the place of another numbers its letters anew.
        sender = f"{fleet_id(self._method)}.{order['first']}"
        self._outbox = Outbox(sender, self._post_office, self._line.call)
        name = self._line.keys.client(f"fleet.{self._method}")
        self._inbox = Inbox(fleet_id(self._method), self._post_office, self._line.open, name)
        self._card = Card(
            session,
            ServerUrl(order["far_url"]),
            key,
            self._lease_s,
            order["durable"],
            order["patience_s"],
            self._home,
            self._method,
            python(),
            place,
        )
        self._session, self._folder = session, folder
        self._budget: Budget | None = None
        self._over_budget = ""  # why nothing more is started
        self._runner: Runner | None = None
        self._plan = Plan(1, 1)
        self._numbers = itertools.count(order["first"])
        self._idle_s, self._again_s = self._settings.idle_s, math.inf
        self._said_waiting = 0.0
        self._grow_at = math.inf
        self._leaving: set[int] = (
            set()
        )  # the numbers of those that were told to, and what they leave is still there

    def run(self) -> None:
        try:
            self._loop()
        finally:
            if self._runner is not None:
                try:
                    self._runner.close()
                except CloudpoolError as error:
                    print(f"cloudpool: {error}", file=sys.stderr, flush=True)

    def _loop(self) -> None:
        looked = time.monotonic()
        while True:
            poll = select.poll()
            poll.register(self._inbox.fileno(), select.POLLIN)
            poll.register(sys.stdin.fileno(), select.POLLIN)
            wait_s = self._between_looks_s()
            ready = {fd for fd, _ in poll.poll(1000 * max(0.0, looked + wait_s - time.monotonic()))}
            if sys.stdin.fileno() in ready:
                return
            if self._inbox.fileno() in ready:
                self._read()
            with suppress(ReplyError):
                self._outbox.run()
            self._act()
            if time.monotonic() >= looked + wait_s:
                looked = time.monotonic()
                self._look()

    def _between_looks_s(self) -> float:
        # Idle hosts cost, too, and what a budget has in reserve is for a look a second.
        if self._plan.is_busy() or (self._budget is not None and self._plan.hosts):
            return LOOK_S
        return max(LOOK_S, min(5 * LOOK_S, self._idle_s))

    def _read(self) -> None:
        try:
            letters = self._inbox.read()
        except (OSError, ReplyError):
            while True:
                self._line.call("PING")
                with suppress(NotYet, OSError):
                    self._inbox.reopen()
                    return
        for op, *rest in letters:
            getattr(self, "_letter_" + op)(*rest)

    def _post(self, reader: str, *letter: object) -> None:
        with suppress(ReplyError):  # refused for now: the loop tries again
            self._outbox.send(reader, letter)

    # -- hosts ------------------------------------------------------------------------------------------------------

    def _begin(self) -> Runner:
        """The runner. Raises CloudpoolError when there can be none."""
        if self._runner is None:
            kind = methods.runner(self._method)
            self._check_way(kind)
            folder = None if self._card.url else self._folder
            self._runner = kind(Order(self._session, self._settings, self._card.encode(), folder))
            if self._settings.budget_usd is not None and self._method in METERED:
                silence_s = self._line.patience_s
                self._budget = Budget(
                    self._settings, self._line, self._sealer, silence_s, getattr(self._runner, "make", None)
                )
            self._plan = Plan(*kind.room(self._settings))
            self._idle_s = getattr(self._settings, f"{self._method}_idle_s", self._settings.idle_s)
            self._again_s = getattr(kind, "again_s", math.inf)
        return self._runner

    def _check_way(self, kind: Any) -> None:
        """Raises RunnerError when hosts of that kind cannot reach the session's server."""
        url = self._card.url
        place = self._card.place
        if place is not None and place.is_folder:
            self._check_folder(kind, place.folder)
        endpoint = place.endpoint if place is not None else ""
        if endpoint and settings.is_loopback(endpoint) and not kind.shares_loopback(self._settings):
            raise RunnerError(
                f"hosts of {self._method} cannot reach the storage of blob_url at {endpoint}: that is this machine's own loopback.\n"
                "Name it in AWS_ENDPOINT_URL by an address that they reach."
            )
        if not url:
            if kind.server is not None or getattr(kind, "needs_url", False):
                raise RunnerError(
                    f"hosts of {self._method} cannot reach the server that has started by itself on this machine.\n"
                    f"Have {self._method} as the start method from the beginning (CLOUDPOOL_START_METHOD={self._method}), or set redis_url."
                )
            return
        if settings.is_loopback(url) and not kind.shares_loopback(self._settings):
            raise RunnerError(
                f"hosts of {self._method} cannot reach {settings.redacted(url)}: that is this machine's own loopback, or a socket.\n"
                "Name the server in CLOUDPOOL_REDIS_URL by an address that they reach."
            )

    def _check_folder(self, kind: Any, path: str) -> None:
        """Raises RunnerError when hosts of that kind would write to disks of their own."""
        shares_folder = getattr(kind, "shares_folder", None)
        if shares_folder is not None and not shares_folder(self._settings, path):
            raise RunnerError(
                f"hosts of {self._method} do not share the folder of blob_url, {self._settings.blob_url}, with this machine.\n"
                "Name storage that they reach, CLOUDPOOL_BLOB_URL=s3://bucket/prefix, or unset it."
            )

    def _act(self) -> None:
        """Ask for the hosts that are needed, send processes to those that are there."""
        if wanted := self._affordable(self._plan.to_start()):
            numbers = range(first := next(self._numbers), first + wanted)
            for _ in range(wanted - 1):
                next(self._numbers)
            self._plan.coming.update(dict.fromkeys(numbers, time.monotonic()))
            try:
                self._begin().start(numbers)
            except CloudpoolError as error:
                for number in numbers:
                    self._plan.coming.pop(number, None)
                if not self._plan.hosts and not self._plan.coming:
                    self._fail(str(error))
                else:
                    self._shrink()
        for host, launch in self._plan.assign():
            host.idle_since = math.inf
            self._post(host_id(host.epoch), "launch", launch.process_id, launch.parent, *launch.rest)

    def _affordable(self, wanted: int) -> int:
        """As many of them as could not pass the budget; those that are there have to do then."""
        if self._budget is None or not wanted:
            return wanted
        hosts = len(self._plan.hosts) + len(self._plan.coming)
        try:
            room = min(wanted, self._budget.room(hosts))
            over_budget = "" if hosts or room else self._budget.words(hosts)
        except ReplyError:  # not now: they are asked for at the next turn
            return 0
        except AuthenticationError as error:
            room, over_budget = 0, _unknown(error)
        if over_budget:
            self._end_all(over_budget)
            return 0
        if room < wanted:
            self._plan.most_hosts = hosts + room
            self._grow_at = time.monotonic() + BUDGET_GROW_S
        return room

    def _look_at_budget(self) -> None:
        """All are told to end while what that takes can still be paid. What they had at work comes back, and is refused."""
        hosts = len(self._plan.hosts) + len(self._plan.coming)
        if self._budget is None or self._over_budget or not hosts:
            return
        try:
            over_budget = self._budget.words(hosts) if self._budget.is_short(hosts) else ""
        except ReplyError:  # not now: at the next look
            return
        except AuthenticationError as error:
            over_budget = _unknown(error)
        if over_budget:
            self._end_all(over_budget)

    def _end_all(self, over_budget: str) -> None:
        self._over_budget = over_budget
        self._fail(over_budget)
        for host in self._plan.hosts.values():
            self._post(host_id(host.epoch), "leave")
        if self._runner is not None:
            self._runner.stop(list(self._plan.coming))
        self._plan.coming.clear()  # who comes all the same is sent home

    def _fail(self, why: str) -> None:
        """No host can come and none is there: whoever waits for one is told."""
        for launch in list(self._plan.waiting.values()):
            self._post(host_id(launch.parent), "refused", launch.process_id, why)
        self._plan.waiting.clear()
        # Those that come late are for the next, who is to wait for them as long.
        self._plan.coming = dict.fromkeys(self._plan.coming, time.monotonic())

    def _shrink(self) -> None:
        self._plan.shrink()
        self._grow_at = time.monotonic() + GROW_S

    def _look(self) -> None:
        now = time.monotonic()
        self._look_at_budget()
        states = self._runner.states() if self._runner is not None else {}
        for host in list(self._plan.hosts.values()):
            if why := states.get(host.number):
                self._gone(host, why)
        ended = {number: states[number] for number in self._plan.coming if number in states}
        for number in ended:
            del self._plan.coming[number]
        if ended and self._runner is not None:
            self._runner.stop(list(ended))
            self._plan.failures += len(ended)
        if self._runner is not None and (left := self._leaving & states.keys()):
            self._runner.stop(list(left))
            self._leaving -= left
        late = self._plan.late(now - self._settings.start_timeout_s)
        if self._plan.waiting and not self._plan.hosts:
            if ended and self._plan.failures >= Plan.MOST_FAILURES:
                self._fail(f"a host ended before it was ready: {next(iter(ended.values()))}")
                self._plan.failures = 0
            elif late:
                why = self._runner.waiting() if self._runner is not None else ""
                self._fail(
                    f"no host has come within {self._settings.start_timeout_s:g} s (start_timeout_s)"
                    + (f": {why}" if why else ".")
                )
        elif late and self._runner is not None:
            for number in late:
                del self._plan.coming[number]
            self._runner.stop(late)
        if self._plan.hosts and (late or (ended and self._plan.failures >= Plan.MOST_FAILURES)):
            self._shrink()
        elif now >= self._grow_at:
            self._grow_at = math.inf
            self._plan.grow()
        self._ask_again(now)
        self._say_why_waiting(now)
        for host in list(self._plan.hosts.values()):
            if not host.running and now - host.idle_since > self._idle_s:
                self._post(host_id(host.epoch), "leave")
                self._leaving.add(host.number)
                self._plan.gone(host)

    def _ask_again(self, now: float) -> None:
        """Of an engine that may lose what it was asked for. Who claims a number first is its host."""
        if self._runner is None or not self._plan.coming or self._again_s == math.inf:
            return
        for number in self._plan.unheard(now, self._again_s):
            # Refused by the server, or by the engine: it waits, as it did.
            with suppress(CloudpoolError, ReplyError):
                self._line.call(
                    "HDEL", self._line.keys.claims, number
                )  # who has claimed it may have died of it
                self._runner.start(range(number, number + 1))

    def _say_why_waiting(self, now: float) -> None:
        """A line, when hosts have not come for some time and the engine knows why."""
        coming = self._plan.coming
        if (
            self._runner is None
            or not coming
            or now - min(coming.values()) < 5
            or now - self._said_waiting < 30
        ):
            return
        if why := self._runner.waiting():
            self._said_waiting = now
            print(f"cloudpool: waiting for hosts of {self._method}: {why}", file=sys.stderr, flush=True)

    def _gone(self, host: Host, why: str) -> None:
        """A host has ended without a word."""
        if OF_MEMORY in why and (
            used := self._line.call("GET", self._line.keys.base(host_id(host.epoch)) + "used")
        ):
            why += f"; when it was last heard it had used {int(used) / MIB:.0f} MiB"
        self._post(host_id(self._home), "gone", host.epoch)
        self._lost_host(host, why)

    def _lost_host(self, host: Host, why: str) -> None:
        for launch in self._plan.gone(host):
            self._post(host_id(launch.parent), "failed", launch.process_id, why)
        for process_id, (place, launch) in self._plan.places.items():
            if launch.parent == host.epoch:  # its parent was there
                self._post(host_id(place.epoch), "orphan", process_id)
        if self._runner is not None:
            self._runner.stop([host.number])

    # -- letters ----------------------------------------------------------------------------------------------------

    def _letter_begin(self) -> None:
        """The stream is there."""

    def _letter_asked(self, about: str, what: str, *arguments: str) -> None:
        """A process on a host asks what there is on this machine."""
        with suppress(ReplyError):  # refused for now: it asks again
            self._answer(about, what, *arguments)

    def _answer(self, about: str, what: str, *arguments: str) -> None:
        name = f"question.{about}"
        key = self._line.keys.base(name) + "answer"
        if self._line.call("EXISTS", key):
            return
        answer: object
        if what == "package":
            answer = self._look_for(name, arguments[0], partial(packages.pack, *arguments))
        elif what == "metadata":
            answer = self._look_for(name, arguments[0], partial(packages.pack_metadata, *arguments))
        else:
            answer = os.path.exists(arguments[0])
        said = json.dumps(answer).encode()
        if self._sealer is not None:
            said = self._sealer.seal(said, f"{name} answer".encode())
        self._line.call("HSET", self._line.keys.objects, name, "")
        self._line.call("RPUSH", key, said)
        if self._line.ttl_ms:
            self._line.call("PEXPIRE", key, self._line.ttl_ms)

    def _look_for(self, name: str, what: str, pack: Callable[[], bytes | None]) -> dict[str, object]:
        """Whether there is what `pack` packs, which is on its way then; or why it cannot go there."""
        try:
            data = pack()
        except Exception as error:  # noqa: BLE001 - whatever one package is like, the fleet is not to end of it
            return {"error": str(error) or repr(error)}
        if data is None:
            return {"is_there": False}
        try:
            self._carrier.send(self._line.call_many, name, data)
        except BlobStoreError as error:
            return {"error": f"{what} is not installed on this host, and cannot be sent there: {error}"}
        return {"is_there": True}

    def _letter_launch(self, process_id: str, parent: int, *rest: object) -> None:
        if not self._plan.knows(process_id):  # else the letter came twice
            try:
                self._begin()
            except CloudpoolError as error:
                self._post(host_id(parent), "refused", process_id, str(error))
                return
            if self._over_budget:
                self._post(host_id(parent), "refused", process_id, self._over_budget)
                return
            self._plan.waiting[process_id] = Launch(process_id, parent, rest)

    def _letter_signal(self, process_id: str, signalnum: int) -> None:
        if (place := self._plan.places.get(process_id)) is not None:
            place[1].signals.append(signalnum)
            self._post(host_id(place[0].epoch), "signal", process_id, signalnum)
        elif (launch := self._plan.cancel(process_id, signalnum)) is not None:
            self._post(host_id(launch.parent), "exited", process_id, -signalnum, b"")  # it never began

    def _letter_orphan(self, process_id: str) -> None:
        if (place := self._plan.places.get(process_id)) is not None:
            self._post(host_id(place[0].epoch), "orphan", process_id)

    def _letter_up(self, epoch: int, number: int) -> None:
        if number not in self._plan.coming and epoch not in self._plan.hosts:
            self._post(host_id(epoch), "leave")  # it had been given up
            return
        self._plan.coming.pop(number, None)
        self._plan.failures = 0
        self._plan.hosts.setdefault(epoch, Host(epoch, number, self._plan.slots, set(), time.monotonic()))
        self._post(host_id(self._home), "host", epoch, self._method)

    def _letter_ended(self, _epoch: int, process_id: str) -> None:
        host = self._plan.ended(process_id)
        if host is not None and not host.running:
            host.idle_since = time.monotonic()

    def _letter_closing(self, epoch: int) -> None:
        """A host comes to its deadline: it ends what it has, and takes no more. What it had been sent, it has before this."""
        if (host := self._plan.hosts.get(epoch)) is not None:
            host.is_closing = True
        self._post(host_id(epoch), "closed")

    def _letter_declined(self, _epoch: int, process_id: str) -> None:
        """A process came to a host that was closing."""
        launch = self._plan.declined(process_id)
        if launch is None:
            return
        if launch.declines > Plan.MOST_FAILURES:
            why = f"hosts of {self._method} come to their deadline before a process has started there: give them more time."
            self._post(host_id(launch.parent), "refused", process_id, why)
        else:
            self._post(host_id(launch.parent), "exited", process_id, -(launch.ended_by() or 0), b"")

    def _letter_left(self, epoch: int) -> None:
        """A host ends in order, of its own or of its engine's accord: no process is left there."""
        self._post(host_id(self._home), "gone", epoch)
        host = self._plan.hosts.get(epoch)
        if host is not None:
            self._lost_host(host, self._over_budget or "its host was told to end")

    def _letter_lost(self, epoch: int, why: str) -> None:
        """The root's agent has declared a host dead."""
        host = self._plan.hosts.get(epoch)
        if host is not None:
            self._lost_host(host, why)


def _unknown(error: AuthenticationError) -> str:
    return (
        f"what its hosts have cost is not known, and there is a budget (CLOUDPOOL_BUDGET_USD): {error}\n"
        "So they were told to end, and no more are started."
    )
