"""A function on AWS Lambda for hosts: made, kept as it is wanted, and removed, with its role and its log.

    package (or an image) --> function: runtime, memory, timeout, VPC, no second try of what was sent
                              role:     writes its log; in a VPC, its network interfaces; big payloads, where there are some
                              log:      kept for two weeks

All that is made bears a tag; what bears none is somebody else's, and is left alone.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from cloudpool.deploy import package
from cloudpool.deploy.function_role import TAG, Log, Role, Step, or_none, rights
from cloudpool.deploy.image import MINOR
from cloudpool.errors import RunnerError
from cloudpool.runners.aws import Account, asked
from cloudpool.runners.aws_lambda import HANDLER
from cloudpool.settings import Settings

MOST_DIRECT = 50 << 20  # packed: more goes by S3
# An event that waits longer is not sent: the runner has asked anew for what it stood for. And none is tried again.
EVENTS = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 120}
PATIENCE_S = 60.0  # for a new role to be known everywhere


class Wish(NamedTuple):
    """What the function is to be, beyond the settings."""

    image: str | None = None  # a URI in ECR; None: a package
    requirements: str | None = None
    vpc: tuple[str, ...] = ()  # ids of subnets and security groups
    role: str | None = None  # an ARN; None: its own
    bucket: str | None = None  # for a package that is too large to be sent


class Deployment:
    """One function. Each method gives a line for each thing, as it is done; or, when it is `dry`, would be."""

    def __init__(self, chosen: Settings, wish: Wish, *, is_dry: bool) -> None:
        account = self._account = Account(chosen, "deploy lambda")
        self._functions = account.client("lambda")
        self._chosen, self._wish, self._is_dry = chosen, wish, is_dry
        self.name, self.region = chosen.lambda_function, account.region
        self._architecture = chosen.lambda_architecture or own_architecture()
        self._role = Role(account, f"cloudpool-{self.name}-{self.region}"[:64])
        self._log = Log(account, f"/aws/lambda/{self.name}")

    def apply(self) -> Iterator[str]:
        """Make it, or change what differs. Raises CloudpoolError."""
        found = self._found()
        with tempfile.TemporaryDirectory(prefix="cloudpool-lambda-") as folder:
            made = None
            if self._wish.image is None:
                made = package.build(folder, self._architecture, self._wish.requirements)
                yield from _described(made)
            if step := self._log.keep():
                yield self._done(step)
            if self._wish.role is None:
                yield self._done(self._role.keep(self._rights()))
            role = self._wish.role or self._role.arn
            if found is None:
                yield self._done(Step("made", self._what(), lambda: self._make(role, made)))
            else:
                yield from self._change(found, role, made)
        if step := self._keep_events():
            yield self._done(step)

    def remove(self) -> Iterator[str]:
        """Take away all that `apply` has made. Raises CloudpoolError."""
        steps = []
        if self._found() is not None:
            delete = partial(self._functions.delete_function, FunctionName=self.name)
            steps.append(Step("removed", f"function {self.name}", delete))
        if self._role.is_ours():
            steps.append(Step("removed", f"role {self._role.name}", self._role.remove))
        if self._log.is_ours():
            steps.append(Step("removed", f"log {self._log.name}", self._log.remove))
        yield from (self._done(step) for step in steps)
        if not steps:
            yield f"there is nothing of a function {self.name} in {self.region}."

    def _done(self, step: Step) -> str:
        """Do it; in words."""
        done, what, do = step
        if do is None:
            return f"{done}: {what}"
        if self._is_dry:
            return f"would be {done}: {what}"
        with asked(f"that {what} is {done}"):
            do()
        return f"{done}: {what}"

    def _rights(self) -> dict[str, Any]:
        """Of its role; with those to big payloads in S3, where they go there."""
        url = self._chosen.blob_url or ""
        blobs = url.removeprefix("s3://").strip("/") if url.startswith("s3://") else ""
        return rights(self.region, self._log.name, blobs, is_in_vpc=bool(self._wish.vpc))

    # -- the function -----------------------------------------------------------------------------------------------

    def _found(self) -> Any:
        """The function as it is, None when there is none. Raises RunnerError for one that is somebody else's."""
        found = or_none("the function", lambda: self._functions.get_function(FunctionName=self.name))
        if found is not None and not TAG.items() <= found.get("Tags", {}).items():
            raise RunnerError(
                f"the function {self.name} in {self.region} was not made by `deploy lambda`, and is left alone.\n"
                "Choose another name: --name."
            )
        return found

    def _what(self) -> str:
        chosen = self._chosen
        return (
            f"function {self.name} in {self.region}: Python {MINOR} on {self._architecture}, "
            f"{chosen.lambda_memory} MiB, {chosen.lambda_timeout_s} s"
            + (f", in {self._subnets()[0]} and others" if self._wish.vpc else "")
        )

    def _subnets(self) -> list[str]:
        return sorted(i for i in self._wish.vpc if i.startswith("subnet-"))

    def _groups(self) -> list[str]:
        return sorted(i for i in self._wish.vpc if i.startswith("sg-"))

    def _settings(self, role: str) -> dict[str, Any]:
        """As Lambda calls them."""
        wanted: dict[str, Any] = {
            "Role": role,
            "MemorySize": self._chosen.lambda_memory,
            "Timeout": self._chosen.lambda_timeout_s,
        }
        if self._wish.image is None:
            wanted |= {"Runtime": f"python{MINOR}", "Handler": HANDLER}
        else:
            entry = ["python3", "-m", "awslambdaric"]
            wanted["ImageConfig"] = {"EntryPoint": entry, "Command": [HANDLER]}
        wanted["VpcConfig"] = {"SubnetIds": self._subnets(), "SecurityGroupIds": self._groups()}
        return wanted

    def _make(self, role: str, made: package.Package | None) -> None:
        settings = self._settings(role)
        if not self._wish.vpc:
            del settings["VpcConfig"]
        end = time.monotonic() + PATIENCE_S
        with self._code(made) as source:
            while True:
                try:
                    self._functions.create_function(
                        FunctionName=self.name,
                        PackageType="Zip" if made is not None else "Image",
                        Code=source.arguments,
                        Architectures=[self._architecture],
                        Tags=TAG,
                        **settings,
                    )
                    break
                except self._functions.exceptions.InvalidParameterValueException as error:
                    # A new role is not known everywhere at once.
                    if "role" not in str(error) or time.monotonic() > end:
                        raise
                    time.sleep(1)
        self._functions.get_waiter("function_active_v2").wait(
            FunctionName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 600}
        )

    def _change(self, found: Any, role: str, made: package.Package | None) -> Iterator[str]:
        now = found["Configuration"]
        kind = "Zip" if made is not None else "Image"
        if now.get("PackageType", "Zip") != kind:
            raise RunnerError(
                f"the function {self.name} is made of {'an image' if made is not None else 'a package'}, which Lambda cannot change.\n"
                "Remove it first: deploy lambda --delete; or choose another name: --name."
            )
        wanted = self._settings(role)
        differing = [name for name, value in wanted.items() if _as_wanted(now, name) != value]
        if differing:
            words = f"{', '.join(differing)} of function {self.name}"
            yield self._done(
                Step("changed", words, lambda: self._configure({n: wanted[n] for n in differing}))
            )
        if self._has_code(found, made):
            if not differing:
                yield f"unchanged: {self._what()}"
            return
        done = self._done(Step("changed", f"code of function {self.name}", lambda: self._replace_code(made)))
        if (
            made is None
            and not self._is_dry
            and self._found()["Configuration"]["CodeSha256"] == now["CodeSha256"]
        ):
            done = f"unchanged: image of function {self.name}"
        yield done

    def _has_code(self, found: Any, made: package.Package | None) -> bool:
        now = found["Configuration"]
        if now.get("Architectures", ["x86_64"]) != [self._architecture]:
            return False
        if made is not None:
            return bool(now["CodeSha256"] == made.digest)
        # A tag may name another image by now: then it is asked for again, which changes nothing if it does not.
        uri = str(self._wish.image)
        return "@sha256:" in uri and uri in (
            found["Code"].get("ImageUri"),
            found["Code"].get("ResolvedImageUri"),
        )

    def _configure(self, settings: dict[str, Any]) -> None:
        self._functions.update_function_configuration(FunctionName=self.name, **settings)
        self._await_update()

    def _replace_code(self, made: package.Package | None) -> None:
        with self._code(made) as source:
            self._functions.update_function_code(
                FunctionName=self.name, Architectures=[self._architecture], **source.arguments
            )
        self._await_update()

    def _await_update(self) -> None:
        self._functions.get_waiter("function_updated_v2").wait(
            FunctionName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 600}
        )

    def _code(self, made: package.Package | None) -> _Source:
        if made is None:
            return _Source({"ImageUri": self._wish.image})
        if made.packed <= MOST_DIRECT:
            return _Source({"ZipFile": Path(made.path).read_bytes()})
        if self._wish.bucket is None:
            raise RunnerError(
                f"the package has {made.packed >> 20} MiB, and Lambda takes {MOST_DIRECT >> 20} from here; more goes by a bucket\n"
                f"of S3 in {self.region}: --bucket NAME; or leave out what is large: {made.largest()}."
            )
        return _Source({}, self._account.client("s3"), self._wish.bucket, made)

    def _keep_events(self) -> Step | None:
        """What was sent and not delivered is not tried again: the runner knows what it needs."""
        found = or_none(
            "the function's events",
            lambda: self._functions.get_function_event_invoke_config(FunctionName=self.name),
        )
        if found is not None and EVENTS.items() <= found.items():
            return None
        put = partial(self._functions.put_function_event_invoke_config, FunctionName=self.name, **EVENTS)
        age_s = EVENTS["MaximumEventAgeInSeconds"]
        return Step("made", f"events of function {self.name}: no second try, at most {age_s} s old", put)


class _Source:
    """Where Lambda finds the code: in the request, or for the request's time in a bucket."""

    def __init__(
        self,
        arguments: dict[str, Any],
        s3: Any = None,
        bucket: str = "",
        made: package.Package | None = None,
    ) -> None:
        self.arguments = arguments
        self._s3, self._bucket, self._made = s3, bucket, made
        self._key = f"cloudpool-{time.time_ns():x}.zip"

    def __enter__(self) -> Self:
        if self._made is not None:
            with asked(f"room for the package in the bucket {self._bucket}"):
                self._s3.upload_file(self._made.path, self._bucket, self._key)
            self.arguments = {"S3Bucket": self._bucket, "S3Key": self._key}
        return self

    def __exit__(self, *_: object) -> None:
        if self._made is not None:
            with asked(f"that the package is removed from the bucket {self._bucket}"):
                self._s3.delete_object(Bucket=self._bucket, Key=self._key)


def own_architecture() -> str:
    """This machine's, by Lambda's name."""
    machine = platform.machine()
    return next((name for name, own in package.MACHINES.items() if own == machine), "x86_64")


def _described(made: package.Package) -> Iterator[str]:
    yield (
        f"package: {made.packed / 2**20:.1f} MiB, {made.unpacked / 2**20:.1f} unpacked, "
        f"of {len(made.sizes)} distributions; the largest: {made.largest()}"
    )
    for name in made.left_out:
        yield f"left out: {name}, of which there is nothing that runs there; functions do without it"


def _as_wanted(now: dict[str, Any], name: str) -> Any:
    """A value as Lambda tells it, in the form in which it is asked for."""
    if name == "VpcConfig":
        found = now.get("VpcConfig") or {}
        return {key: sorted(found.get(key) or []) for key in ("SubnetIds", "SecurityGroupIds")}
    if name == "ImageConfig":
        found = (now.get("ImageConfigResponse") or {}).get("ImageConfig") or now.get("ImageConfig") or {}
        return {key: found.get(key) for key in ("EntryPoint", "Command")}
    return now.get(name)
