"""Who asks S3: keys from arguments, the environment, boto3's chain, or the files in ~/.aws. Cached a process, renewed in time."""

from __future__ import annotations

import configparser
import os
import threading
import time
from functools import cache
from typing import Any, NamedTuple

from cloudpool.errors import MissingExtraError

RENEW_S = 60.0  # how long keys that boto3 gave are used before it is asked again: it renews those that expire


class Keys(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None = None


_lock = threading.Lock()
_given: dict[str | None, tuple[float, Keys]] = {}


def _forget() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)


def find_keys(profile: str | None) -> Keys:
    """Keys of `profile`, or by the usual chain. Raises PermissionError when there are none, MissingExtraError."""
    env = os.environ
    if profile is None and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        return Keys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN"))
    with _lock:
        since, keys = _given.get(profile, (0.0, None))
        if keys is None or time.monotonic() - since > RENEW_S:
            keys = _by_boto3(profile)
            _given[profile] = time.monotonic(), keys
        return keys


def _by_boto3(profile: str | None) -> Keys:
    session = _session(profile)
    if session is None:
        return _from_file(profile)
    found = session.get_credentials()
    if found is None:
        raise PermissionError(
            "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a profile by "
            "AWS_PROFILE, or pass anonymous=True for public data"
        )
    frozen = found.get_frozen_credentials()
    return Keys(frozen.access_key, frozen.secret_key, frozen.token)


@cache
def _session(profile: str | None) -> Any:
    """boto3's session, which keeps the credentials and renews them; None without boto3."""
    try:
        import boto3
    except ImportError:
        return None
    return boto3.Session(profile_name=profile)


def _from_file(profile: str | None) -> Keys:
    """The plain keys of ~/.aws/credentials: all that can be done without boto3."""
    path = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.expanduser("~/.aws/credentials")
    files = configparser.ConfigParser(interpolation=None)
    files.read(path)
    section = profile or os.environ.get("AWS_PROFILE") or "default"
    if not files.has_option(section, "aws_access_key_id"):
        raise MissingExtraError(
            "s3", "AWS credentials that are neither in the environment nor in ~/.aws/credentials"
        )
    found = files[section]
    return Keys(found["aws_access_key_id"], found["aws_secret_access_key"], found.get("aws_session_token"))


def find_region(profile: str | None) -> str:
    """The region that the environment or the profile names, or us-east-1: a bucket elsewhere says where it is."""
    env = os.environ
    named = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    if named:
        return named
    files = configparser.ConfigParser(interpolation=None)
    files.read(env.get("AWS_CONFIG_FILE") or os.path.expanduser("~/.aws/config"))
    section = profile or env.get("AWS_PROFILE") or "default"
    return files.get(
        section if section == "default" else f"profile {section}", "region", fallback="us-east-1"
    )
