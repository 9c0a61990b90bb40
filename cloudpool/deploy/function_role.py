"""What a function on AWS Lambda needs beside itself: a role with the rights that it uses, and a log that ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from cloudpool.errors import RunnerError
from cloudpool.runners.aws import Account, asked, code

TAG = {"cloudpool": "deploy"}  # what is made bears it; what bears it not is somebody else's
DAYS = 14  # that the log is kept
POLICY = "cloudpool"
MISSING = ("ResourceNotFoundException", "NoSuchEntity", "NoSuchEntityException")
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


class Step(NamedTuple):
    """Something to be done; without `do` it is as it should be."""

    done: str
    what: str
    do: Callable[[], object] | None = None


class Role:
    """A function's own role."""

    def __init__(self, account: Account, name: str) -> None:
        self._iam = account.client("iam")
        self.name = name
        self.arn = f"arn:aws:iam::000000000000:role/{name}"  # until it is known: of a dry run

    def keep(self, policy: dict[str, Any]) -> Step:
        """Raises RunnerError for one that is somebody else's."""
        found = or_none("the role", lambda: self._iam.get_role(RoleName=self.name))
        if found is None:
            return Step("made", f"role {self.name}", lambda: self._make(policy))
        self.arn = found["Role"]["Arn"]
        if not self.is_ours():
            raise RunnerError(
                f"the role {self.name} was not made by `deploy lambda`, and is left alone.\nName a role: --role ARN."
            )
        now = or_none(
            "the role's rights", lambda: self._iam.get_role_policy(RoleName=self.name, PolicyName=POLICY)
        )
        if now is not None and now["PolicyDocument"] == policy:
            return Step("unchanged", f"role {self.name}")
        return Step("changed", f"rights of role {self.name}", lambda: self._write(policy))

    def _make(self, policy: dict[str, Any]) -> None:
        made = self._iam.create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(TRUST),
            Description="A function that runs hosts of cloudpool",
            Tags=[{"Key": key, "Value": value} for key, value in TAG.items()],
        )
        self.arn = made["Role"]["Arn"]
        self._write(policy)

    def _write(self, policy: dict[str, Any]) -> None:
        self._iam.put_role_policy(RoleName=self.name, PolicyName=POLICY, PolicyDocument=json.dumps(policy))

    def is_ours(self) -> bool:
        found = or_none("the role", lambda: self._iam.list_role_tags(RoleName=self.name))
        return found is not None and TAG.items() <= {t["Key"]: t["Value"] for t in found["Tags"]}.items()

    def remove(self) -> None:
        for name in self._iam.list_role_policies(RoleName=self.name)["PolicyNames"]:
            self._iam.delete_role_policy(RoleName=self.name, PolicyName=name)
        self._iam.delete_role(RoleName=self.name)


class Log:
    """A function's log. One that was there before is its owner's."""

    def __init__(self, account: Account, name: str) -> None:
        self._logs = account.client("logs")
        self.name = name

    def keep(self) -> Step | None:
        if self._tags() is not None:
            return None
        return Step("made", f"log {self.name}, kept for {DAYS} days", self._make)

    def _make(self) -> None:
        self._logs.create_log_group(logGroupName=self.name, tags=TAG)
        self._logs.put_retention_policy(logGroupName=self.name, retentionInDays=DAYS)

    def _tags(self) -> dict[str, str] | None:
        """None when there is no such log."""
        with asked("the function's log"):
            groups = self._logs.describe_log_groups(logGroupNamePrefix=self.name)["logGroups"]
            if self.name not in {group["logGroupName"] for group in groups}:
                return None
            tags: dict[str, str] = self._logs.list_tags_log_group(logGroupName=self.name)["tags"]
            return tags

    def is_ours(self) -> bool:
        return TAG.items() <= (self._tags() or {}).items()

    def remove(self) -> None:
        self._logs.delete_log_group(logGroupName=self.name)


def rights(region: str, log: str, blobs: str, *, is_in_vpc: bool) -> dict[str, Any]:
    """What a function may do: write its log, and nothing else unless it needs that. `blobs` is bucket/prefix."""
    statements: list[dict[str, Any]] = [
        {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": f"arn:aws:logs:{region}:*:log-group:{log}:*",
        }
    ]
    if is_in_vpc:
        names = "CreateNetworkInterface DescribeNetworkInterfaces DescribeSubnets DeleteNetworkInterface"
        names += " AssignPrivateIpAddresses UnassignPrivateIpAddresses"
        actions = [f"ec2:{name}" for name in names.split()]
        statements.append({"Effect": "Allow", "Action": actions, "Resource": "*"})
    if blobs:
        bucket, _, prefix = blobs.partition("/")
        objects = f"arn:aws:s3:::{bucket}/{prefix + '/' if prefix else ''}*"
        actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
        statements.append({"Effect": "Allow", "Action": actions, "Resource": objects})
        listing: dict[str, Any] = {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:aws:s3:::{bucket}",
        }
        if prefix:
            listing["Condition"] = {"StringLike": {"s3:prefix": f"{prefix}/*"}}
        statements.append(listing)
    return {"Version": "2012-10-17", "Statement": statements}


def or_none(what: str, ask: Callable[[], Any]) -> Any:
    """None for what is not there. Raises RunnerError."""
    from botocore.exceptions import ClientError

    try:
        with asked(what, passing=MISSING):
            return ask()
    except ClientError as error:
        if code(error) not in MISSING:
            raise
        return None
