"""What invocations of functions cost: each writes, at every heartbeat and at its end, what it has run so far.

    cp:<session>:{session}:usage    hash    invocation -> Report (sealed where all is); written again, it counts once

An invocation is one run of the handler: a delivery that is repeated, or tried again, is another one and is billed again;
who finds its number claimed reports that once. Who comes when the session is over reports nothing.
One that is killed counts to the end of the beat in which its next report was due: no more of it was billed, since a host
that cannot report ends by itself within `may_run_s`.
"""

from __future__ import annotations

import json
import math
import os
import platform
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpool.store import scripts
from cloudpool.store.keys import Keys

if TYPE_CHECKING:
    from cloudpool.sealing import Sealer

MOST_INIT_S = (
    10.0  # of an environment: Lambda's limit, and what else it takes is a part of the first invocation
)
ARCHITECTURES = {"aarch64": "arm64"}  # by the kernel's word, where Lambda has another


class Report(NamedTuple):
    """One invocation, as it was at `at`, by its own clock."""

    function: str
    region: str
    architecture: str
    memory_mb: int
    init_ms: int  # billed too, with an environment's first invocation
    run_ms: int
    at: float
    beat_s: float  # until the next report
    may_run_s: float  # after this one, without another
    is_over: bool

    @property
    def billed_ms(self) -> int:
        return self.init_ms + self.run_ms

    def at_most_ms(self, now: float, ahead_s: float = 0.0) -> int:
        """What will be billed by `now` and `ahead_s` more, never too little: for one that runs, its going on counts."""
        if self.is_over:
            return self.billed_ms
        silent_s = max(0.0, now - self.at)
        more_s = self.beat_s if silent_s > self.may_run_s else min(silent_s + ahead_s, self.may_run_s)
        return self.billed_ms + math.ceil(1000 * more_s)

    def is_running(self, now: float) -> bool:
        return not self.is_over and now - self.at <= self.may_run_s


class Meter:
    """Of one invocation: made first thing in the handler, which has `context`. `call` sends a command to the server.

        meter = Meter(context)
        meter.report(call, keys, ttl_ms, sealer, beat_s, may_run_s)        at once, then at each heartbeat
        meter.report(..., is_over=True)                                     last thing before the answer

    `may_run_s` is how long the invocation may go on when its reports stop arriving: to its deadline, or until its host gives up.
    """

    _has_run = False  # an invocation of this environment

    def __init__(self, context: Any) -> None:
        self._begun = time.monotonic()
        self._name = f"{context.aws_request_id}.{secrets.token_hex(4)}"  # a retry has the same request's id
        self._memory_mb = int(context.memory_limit_in_mb)
        self._function = str(context.function_name)
        self._init_s = 0.0 if Meter._has_run else min(_age_s(), MOST_INIT_S)
        Meter._has_run = True

    def report(
        self,
        call: Callable[..., Any],
        keys: Keys,
        ttl_ms: int,
        sealer: Sealer | None,
        beat_s: float,
        may_run_s: float,
        *,
        is_over: bool = False,
    ) -> None:
        """Of a session that is over nothing is reported. Raises what `call` does."""
        machine = platform.machine()
        said = Report(
            self._function,
            os.environ.get("AWS_REGION", ""),
            ARCHITECTURES.get(machine, machine),
            self._memory_mb,
            math.ceil(1000 * self._init_s),
            math.ceil(1000 * (time.monotonic() - self._begun)),
            time.time(),
            beat_s,
            may_run_s,
            is_over,
        )
        data = json.dumps(said).encode()
        if sealer:
            data = sealer.seal(data, _place(self._name))
        source = scripts.source("session_set")
        call("EVAL", source, 2, keys.beat, keys.usage, self._name, data, ttl_ms, "")


def reports(call: Callable[..., Any], keys: Keys, sealer: Sealer | None) -> list[Report]:
    """Of all invocations of the session. Raises what `call` does, and AuthenticationError."""
    said = call("HGETALL", keys.usage)
    pairs = said.items() if isinstance(said, dict) else zip(said[::2], said[1::2], strict=True)
    return [_read(name.decode(), data, sealer) for name, data in pairs]


def _read(name: str, data: bytes, sealer: Sealer | None) -> Report:
    return Report(*json.loads(sealer.open(data, _place(name)) if sealer else data))


def _place(name: str) -> bytes:
    return f"usage {name}".encode()


def _age_s() -> float:
    """Of this process, which an environment starts with; what came before it is not billed."""
    with open("/proc/self/stat", "rb") as file:
        started = int(file.read().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
