"""AWS as boto3 has it: clients by the usual chain of credentials, and what they refuse in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloudpool.errors import MissingExtraError, RunnerError
from cloudpool.settings import Settings

RIGHTS = "docs/lambda.md"  # where the rights are that one needs
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized")


class Account:
    """Clients of one account and region: those of AWS_PROFILE, the environment, a role, single sign-on.

    Raises MissingExtraError, and RunnerError where no region is known.
    """

    def __init__(self, chosen: Settings, purpose: str) -> None:
        try:
            import boto3
        except ImportError:
            raise MissingExtraError("lambda", purpose) from None
        with asked("the configuration"):
            self._session = boto3.session.Session(
                region_name=chosen.lambda_region
                or os.environ.get("AWS_REGION")  # as the other SDKs know it, and functions
            )
        if not self._session.region_name:
            raise RunnerError(
                f"{purpose} needs to know a region of AWS: CLOUDPOOL_LAMBDA_REGION or AWS_REGION."
            )
        self.region: str = self._session.region_name

    def client(self, service: str, **config: Any) -> Any:
        from botocore.config import Config

        with asked(service):
            return self._session.client(service, config=Config(**{"connect_timeout": 10, **config}))

    def credentials(self) -> str:
        """Where they come from, as boto3 calls it; "" when there are none."""
        found = self._session.get_credentials()
        return str(found.method) if found is not None else ""


@contextmanager
def asked(what: str, passing: tuple[str, ...] = ()) -> Iterator[None]:
    """What AWS or the way to it refuses is a RunnerError; errors of the codes `passing` are the caller's to catch."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in passing:
            raise
        cure = f"\nAn administrator gives that right: see {RIGHTS}." if code in DENIED else ""
        raise RunnerError(f"AWS refuses {what}: {message(error)}{cure}") from None
    except BotoCoreError as error:
        raise RunnerError(
            f"AWS cannot be asked for {what}: {error}.\nSee that `aws sts get-caller-identity` works here."
        ) from None


def message(error: Any) -> str:
    """A ClientError's own words."""
    said = error.response.get("Error", {})
    return f"{said.get('Message') or error} ({said.get('Code', 'no code')})"


def code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
