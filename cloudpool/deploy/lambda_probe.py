"""The doctor's look at AWS Lambda: the account, the function, and what one invocation says of itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from cloudpool import settings
from cloudpool.deploy.checks import Check, clocks, compared, tried
from cloudpool.deploy.function import EVENTS
from cloudpool.deploy.function_role import or_none
from cloudpool.deploy.image import MINOR
from cloudpool.deploy.probe import trip_ms
from cloudpool.errors import CloudpoolError, RunnerError
from cloudpool.runners.aws import Account, asked
from cloudpool.runners.aws_lambda import HANDLER
from cloudpool.settings import Settings

DEPLOY = "python -m cloudpool deploy lambda"
WARM = 5  # invocations, of which the fastest tells
FEW = 100  # invocations at once: new accounts begin with less


def checks(chosen: Settings) -> Iterator[Check]:
    """As they are done; one that fails and stands in the way of others is the last."""
    try:
        account = Account(chosen, "doctor --on lambda")
        yield Check("configuration", True, _credentials(account))
        begin = time.perf_counter()
        functions = account.client("lambda", read_timeout=120)
        with asked("who this is (sts:GetCallerIdentity)"):
            identity = account.client("sts").get_caller_identity()
    except CloudpoolError as error:
        yield Check("credentials", False, str(error))
        return
    took_ms = 1000 * (time.perf_counter() - begin)
    yield Check("credentials", True, f"{identity['Arn']}, answered in {took_ms:.0f} ms")
    lambdas = Function(functions, chosen, account.region)
    for what, look in (("function", lambdas.there), ("right to invoke it", lambdas.may_invoke)):
        check = tried(what, look)
        yield check
        if not check.is_ok:
            return
    yield Check("events", *lambdas.events())
    yield Check("invocations at once", True, lambdas.concurrency())
    server = tried("server from here", lambda: _server(chosen))
    yield server
    if server.is_ok:
        yield from lambdas.from_inside(str(chosen.redis_url))


def _credentials(account: Account) -> str:
    if not (found := account.credentials()):
        raise RunnerError(
            "there are no credentials of AWS: `aws configure`, AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret."
        )
    return f"region {account.region}, credentials from {found}"


def _server(chosen: Settings) -> str:
    """Raises RunnerError, ServerError."""
    if chosen.redis_url is None:
        raise RunnerError(
            "no server is named, and none can be in a function: set CLOUDPOOL_REDIS_URL to one that functions reach."
        )
    if settings.is_loopback(chosen.redis_url):
        raise RunnerError(
            f"{settings.redacted(chosen.redis_url)} is this machine's own loopback: functions do not reach it.\n"
            "Set CLOUDPOOL_REDIS_URL to a server that they reach."
        )
    return f"{trip_ms(chosen.redis_url)} ms a trip"


class Function:
    """The one that the settings name."""

    def __init__(self, functions: Any, chosen: Settings, region: str) -> None:
        self._functions, self._name, self._region = functions, chosen.lambda_function, region

    def there(self) -> str:
        """Raises RunnerError."""
        found = or_none("the function", lambda: self._functions.get_function(FunctionName=self._name))
        if found is None:
            raise RunnerError(f"there is none of the name {self._name} in {self._region}: {DEPLOY}")
        now = found["Configuration"]
        if now.get("State", "Active") not in ("Active", "Inactive"):
            raise RunnerError(f"{self._name} is {now['State']}: {now.get('StateReason', 'no reason given')}")
        wanted = f"python{MINOR}"
        if now.get("PackageType", "Zip") == "Zip" and (now["Runtime"], now["Handler"]) != (wanted, HANDLER):
            raise RunnerError(
                f"{self._name} has {now['Runtime']} and {now['Handler']}, and {wanted} and {HANDLER} are needed: {DEPLOY}"
            )
        architecture = ", ".join(now.get("Architectures", ["x86_64"]))
        return f"{self._name} in {self._region}: {architecture}, {now['MemorySize']} MiB, {now['Timeout']} s"

    def may_invoke(self) -> str:
        """Raises RunnerError."""
        with asked(f"to invoke {self._name} (lambda:InvokeFunction)"):
            self._functions.invoke(FunctionName=self._name, InvocationType="DryRun", Payload=b"{}")
        return "there"

    def events(self) -> tuple[bool, str]:
        """Whether what is sent is tried but once: a second try of a host is billed and does nothing."""
        try:
            found = or_none(
                "the function's events",
                lambda: self._functions.get_function_event_invoke_config(FunctionName=self._name),
            )
        except RunnerError as error:
            return True, f"not known ({error})"
        if found is None or found.get("MaximumRetryAttempts") != EVENTS["MaximumRetryAttempts"]:
            return False, f"AWS tries again what has failed, which costs and does nothing: {DEPLOY}"
        return True, "no second try"

    def concurrency(self) -> str:
        """For the eye: many an account may not be asked."""
        try:
            with asked("the account's limits (lambda:GetAccountSettings)"):
                limits = self._functions.get_account_settings()["AccountLimit"]
        except RunnerError:
            return "not known (lambda:GetAccountSettings)"
        most = limits["UnreservedConcurrentExecutions"]
        return f"{most}" + (": ask AWS for more (Service Quotas, Lambda)" if most < FEW else "")

    def from_inside(self, url: str) -> Iterator[Check]:
        """What an invocation says."""
        try:
            began, first, ended = self._ask(url)
        except CloudpoolError as error:
            yield Check("invocation", False, str(error))
            return
        warm_s = min(end - begin for begin, _, end in (self._ask(None) for _ in range(WARM)))
        words = f"the first in {ended - began:.1f} s, then {1000 * warm_s:.0f} ms"
        yield Check("invocation", True, words)
        yield compared("versions", f"function {self._name}", first["versions"], f"make it anew, {DEPLOY}")
        yield clocks(began, first["time"], ended)
        if why := first.get("error"):
            why += "\nA function in no VPC reaches what the internet does; one in a VPC, that (deploy lambda --vpc)."
        yield Check("server from a function", not why, why or f"{first['trip_ms']} ms a trip")

    def _ask(self, url: str | None) -> tuple[float, Any, float]:
        """Raises RunnerError."""
        begin = time.time()
        with asked(f"to invoke {self._name}"):
            said = self._functions.invoke(
                FunctionName=self._name, Payload=json.dumps({"probe": url}).encode()
            )
            answer = json.loads(said["Payload"].read())
        if said.get("FunctionError"):
            raise RunnerError(
                f"{self._name} failed: {answer.get('errorType')}: {answer.get('errorMessage')}.\n"
                f"Its log is in CloudWatch, /aws/lambda/{self._name}; make it anew: {DEPLOY}"
            )
        return begin, answer, time.time()
