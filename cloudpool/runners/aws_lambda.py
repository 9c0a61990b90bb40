"""Hosts that are environments of a function on AWS Lambda: one invocation each, for as long as the host has something to do.

start --numbers--> queue --> threads --Invoke, Event--> Lambda --> cloudpool.function.handle

Lambda says nothing of what becomes of an asynchronous invocation, may deliver it twice, and may lose it. Hosts claim their
numbers, those that have not come are asked for again, and of those that are gone their silence tells.
"""

from __future__ import annotations

import base64
import json
import queue
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from cloudpool.errors import RunnerError
from cloudpool.runners.aws import Account
from cloudpool.runners.budget import Make
from cloudpool.runners.runner import Order
from cloudpool.settings import Settings

HANDLER = "cloudpool.function.handle"
FIRST_PAUSE_S, MOST_PAUSE_S = 0.2, 10.0
CONNECT_S, ANSWER_S = 5, 30
LAST_S = 1.0  # for requests under way
LONG_S = 20.0  # for what was accepted to begin: then it is said
# What passes: too much at once, an environment or its network that is being made, a function that is being changed.
PASSING = frozenset({
    "TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "ServiceException",
    "InternalFailure", "InternalError", "ServiceUnavailable", "ResourceConflictException", "ResourceNotReadyException",
    "CodeArtifactUserPendingException", "EC2ThrottledException", "EC2UnexpectedException", "ENILimitReachedException",
    "SubnetIPAddressLimitReachedException", "EFSMountTimeoutException", "EFSMountConnectivityException",
})  # fmt: skip


def connect(chosen: Settings, purpose: str) -> Any:
    """A client of AWS Lambda. Raises MissingExtraError, RunnerError."""
    return Account(chosen, purpose).client(
        "lambda",
        retries={"total_max_attempts": 1},  # by the runner, which can say why it waits
        max_pool_connections=max(10, chosen.lambda_invokes),
        connect_timeout=CONNECT_S,
        read_timeout=ANSWER_S,
    )


class LambdaRunner:
    """Invocations are sent by threads that end with it; an environment ends by itself when its session is over."""

    server = None
    needs_url = True
    again_s = 10.0

    def __init__(self, order: Order) -> None:
        self._client = connect(order.settings, "The start method lambda")
        from botocore import exceptions

        self._errors = exceptions
        self._function = order.settings.lambda_function
        self._most_threads = order.settings.lambda_invokes
        self._start_timeout_s = order.settings.start_timeout_s
        self._card = base64.b64encode(order.card).decode()
        self.make = self._look_at_function()
        self._asked: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._pending: set[int] = set()  # numbers that are to be asked for, or being asked for
        self._accepted: dict[int, float] = {}  # by Lambda, and when
        self._refused: dict[int, str] = {}
        self._denied = ""  # why the last one was refused for good
        self._trial: threading.Thread | None = None
        self._found = ""  # by a function that was asked why
        self._delayed: dict[int, str] = {}  # why they are tried again
        self._closing = threading.Event()

    @staticmethod
    def room(settings: Settings) -> tuple[int, int]:
        return settings.lambda_hosts, settings.lambda_slots

    @staticmethod
    def shares_loopback(settings: Settings) -> bool:  # noqa: ARG004 - of no function
        return False

    @staticmethod
    def shares_folder(settings: Settings, path: str) -> bool:  # noqa: ARG004 - it is the function that has it
        return path.startswith("/mnt/")  # the only place where Lambda mounts file systems

    def _look_at_function(self) -> Make | None:
        """What it is. Raises RunnerError when hosts cannot come from it. None: not a right that the work itself needs."""
        try:
            found = self._client.get_function_configuration(FunctionName=self._function)
        except self._errors.ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceNotFoundException":
                raise RunnerError(self._refusal(error)) from None
            return None  # not allowed to look, or too much at once: asking for hosts tells
        except self._errors.NoCredentialsError as error:
            raise RunnerError(
                f"AWS Lambda cannot be used: {error}. Say who you are as for the aws command (`aws configure`)."
            ) from None
        except self._errors.BotoCoreError:
            return None
        runtime = found.get("Runtime")
        here = "python{}.{}".format(*sys.version_info[:2])
        if runtime is not None and runtime != here:
            raise RunnerError(
                f"the function {self._function} has {runtime}, and this program runs on {here}.\n"
                "Make one with the same: python -m cloudpool deploy lambda."
            )
        if "MemorySize" not in found:
            return None
        architecture = (found.get("Architectures") or ["x86_64"])[0]
        return Make(self._client.meta.region_name, architecture, int(found["MemorySize"]))

    def start(self, numbers: range) -> None:
        with self._lock:
            denied, self._denied = self._denied, ""
            if denied:
                raise RunnerError(denied)
            new = [number for number in numbers if number not in self._pending]
            self._pending.update(new)
            if self._trial is None and any(number in self._accepted for number in new):
                self._trial = threading.Thread(target=self._try_one, daemon=True)
                self._trial.start()
        for number in new:
            self._asked.put(number)
        for _ in range(min(self._most_threads - len(self._threads), len(self._pending) - len(self._threads))):
            thread = threading.Thread(target=self._ask, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _ask(self) -> None:
        pause_s = FIRST_PAUSE_S
        while (number := self._asked.get()) is not None and not self._closing.is_set():
            with self._lock:
                if number not in self._pending:  # it was stopped
                    continue
            why, passes = self._invoke(number)
            with self._lock:
                if number not in self._pending:
                    continue
                if passes:
                    self._delayed[number] = why
                else:
                    self._pending.discard(number)
                    self._delayed.pop(number, None)
                    if why:
                        self._refused[number] = self._denied = why
                    else:
                        self._accepted.setdefault(number, time.monotonic())
            if passes:
                self._closing.wait(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
                self._asked.put(number)
            else:
                pause_s = FIRST_PAUSE_S

    def _invoke(self, number: int) -> tuple[str, bool]:
        """Why that was not possible, and whether it may be soon."""
        payload = json.dumps({"card": self._card, "number": number}).encode()
        try:
            self._client.invoke(FunctionName=self._function, InvocationType="Event", Payload=payload)
        except self._errors.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return self._refusal(error), error.response["Error"]["Code"] in PASSING or status in (
                429,
                500,
                502,
                503,
                504,
            )
        except (self._errors.HTTPClientError, self._errors.ConnectionError) as error:
            return (
                f"{error}\n`python -m cloudpool doctor --on lambda` checks the way there;"
                f" the first host is waited for {self._start_timeout_s:g} s (start_timeout_s)."
            ), True
        except self._errors.BotoCoreError as error:
            return f"AWS Lambda cannot be used: {error}", False
        return "", False

    def _try_one(self) -> None:
        """Hosts were accepted, and have not come: one that is waited for can say whether it reaches the server."""
        payload = json.dumps({"card": self._card, "is_trial": True}).encode()
        with suppress(self._errors.ClientError, self._errors.BotoCoreError, OSError):
            answer = self._client.invoke(FunctionName=self._function, Payload=payload)
            self._found = _said_by(answer["Payload"].read())

    def _refusal(self, error: Any) -> str:
        said = error.response["Error"]
        if said["Code"] == "ResourceNotFoundException":
            where = self._client.meta.region_name
            return (
                f"there is no function {self._function} in {where}.\n"
                "Make it: python -m cloudpool deploy lambda; or name another: CLOUDPOOL_LAMBDA_FUNCTION, CLOUDPOOL_LAMBDA_REGION."
            )
        if said["Code"] in ("AccessDeniedException", "AccessDenied"):
            return f"AWS refuses to invoke {self._function}: {said.get('Message')}\nIt needs the right lambda:InvokeFunction."
        reason = error.response.get("Reason") or said.get("Message", "")
        return f"AWS Lambda says {said['Code']}: {reason}"

    def states(self) -> dict[int, str]:
        with self._lock:
            return dict(self._refused)

    def waiting(self) -> str:
        with self._lock:
            delayed, last = (
                list(self._delayed.values()),
                max(self._accepted.values(), default=time.monotonic()),
            )
        if delayed:
            return f"{len(delayed)} invocations of {self._function} are tried again: {delayed[-1]}"
        if self._found:
            return f"the function {self._function} says: {self._found}"
        if time.monotonic() - last < LONG_S:
            return ""
        return (
            f"AWS Lambda has accepted all invocations of {self._function}, and some do not begin, or do not reach the server.\n"
            f"Is its concurrency used up? May it connect to the server? See its log, /aws/lambda/{self._function} in CloudWatch."
        )

    def stop(self, numbers: list[int]) -> None:
        """An environment hears of its end from the session itself."""
        with self._lock:
            for number in numbers:
                self._pending.discard(number)
                for known in (self._delayed, self._refused, self._accepted):
                    known.pop(number, None)

    def close(self) -> None:
        self._closing.set()
        for _ in self._threads:
            self._asked.put(None)
        deadline = time.monotonic() + LAST_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with suppress(Exception):
            self._client.close()


def _said_by(answer: bytes) -> str:
    """What a trial has found, or ""."""
    try:
        said = json.loads(answer)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not said.keys() & {"said", "errorMessage"}:
        return "nothing that cloudpool understands: it is another program's. CLOUDPOOL_LAMBDA_FUNCTION names the one to use."
    return str(said.get("said") or said.get("errorMessage") or "")
