"""`deploy lambda`, `doctor --on lambda`, and what functions cost: on AWS, or on what AWS_ENDPOINT_URL names.

TEST_LAMBDA is the address at which functions reach servers of this machine; without it these tests are skipped. TEST_LAMBDA_IMAGE is an
image in the registry, by `python -m cloudpool image` with awslambdaric.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from cloudpool import settings
from cloudpool.deploy import function, lambda_probe, package
from cloudpool.deploy.function import Deployment, Wish
from cloudpool.deploy.function_role import TAG, rights
from cloudpool.errors import RunnerError
from cloudpool.runners.aws import Account

pytestmark = pytest.mark.timeout(300)  # a package and a function are made, and programs run there

DOCS = Path(__file__).parents[2] / "docs" / "lambda"
MEMORY, TIMEOUT_S = 1024, 60


def command(*arguments: str, status: int = 0, **environ: str) -> list[str]:
    """The lines that a command of the command line prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cloudpool", *arguments],
        capture_output=True, text=True, timeout=200, env={**os.environ, **environ},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def name(functions: Any) -> Iterator[str]:
    """A function that the command line has deployed; what it said is `SAID`."""
    name = f"deploy-{secrets.token_hex(4)}"
    options = ("--name", name, "--memory", str(MEMORY), "--timeout", str(TIMEOUT_S))
    SAID.extend(command("deploy", "lambda", *options))
    yield name
    command("deploy", "lambda", "--name", name, "--delete")


SAID: list[str] = []


@pytest.fixture(scope="module")
def built(functions: Any, tmp_path_factory: pytest.TempPathFactory) -> package.Package:
    """The package, made once: it takes seconds."""
    folder = str(tmp_path_factory.mktemp("package"))
    return package.build(folder, function.own_architecture(), None)


@pytest.fixture
def deployment(
    built: package.Package, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Deployment]]:
    """deployment(name, wish, is_dry=..., lambda_memory=...). What it has made is removed."""
    monkeypatch.setattr(package, "build", lambda *_: built)
    made: list[str] = []

    def deployment(
        name: str, wish: Wish | None = None, *, is_dry: bool = False, **chosen: object
    ) -> Deployment:
        made.append(name)
        values = {"lambda_memory": MEMORY, "lambda_timeout_s": TIMEOUT_S, **chosen}
        found = settings.read({"lambda_function": name, **values}, {}, "/")
        return Deployment(found, wish or Wish(), is_dry=is_dry)

    yield deployment
    for name in set(made):
        found = settings.read({"lambda_function": name}, {}, "/")
        list(Deployment(found, Wish(), is_dry=False).remove())


@pytest.fixture
def aws(functions: Any) -> Callable[[str], Any]:
    boto3 = pytest.importorskip("boto3")
    return boto3.client


def done(lines: list[str]) -> list[str]:
    """What is said of each thing, without the package's size."""
    return [line.partition(":")[0] for line in lines if not line.startswith(("package", "left out"))]


def test_a_function_is_made_with_all_that_it_needs_and_no_second_tries(name, aws):
    assert done(SAID) == ["made"] * 4
    lambdas = aws("lambda")
    now = lambdas.get_function(FunctionName=name)
    configuration = now["Configuration"]
    assert TAG.items() <= now["Tags"].items()
    assert (configuration["MemorySize"], configuration["Timeout"]) == (MEMORY, TIMEOUT_S)
    assert configuration["Runtime"] == "python{}.{}".format(*sys.version_info[:2])
    events = lambdas.get_function_event_invoke_config(FunctionName=name)
    assert events["MaximumRetryAttempts"] == 0
    role = configuration["Role"].rpartition("/")[2]
    log = f"/aws/lambda/{name}"
    policy = aws("iam").get_role_policy(RoleName=role, PolicyName="cloudpool")["PolicyDocument"]
    assert policy == rights(lambdas.meta.region_name, log, "", is_in_vpc=False)
    groups = aws("logs").describe_log_groups(logGroupNamePrefix=log)["logGroups"]
    assert [group["retentionInDays"] for group in groups] == [14]


def test_again_nothing_changes_and_what_differs_is_changed_alone(name, aws, deployment, built):
    lambdas = aws("lambda")
    first = lambdas.get_function(FunctionName=name)["Configuration"]
    assert first["CodeSha256"] == built.digest  # made at another time, in another folder
    again = Deployment(
        settings.read(
            {"lambda_function": name, "lambda_memory": MEMORY, "lambda_timeout_s": TIMEOUT_S}, {}, "/"
        ),
        Wish(),
        is_dry=False,
    )
    assert done(list(again.apply())) == ["unchanged"] * 2
    assert lambdas.get_function(FunctionName=name)["Configuration"]["LastModified"] == first["LastModified"]


def test_a_dry_run_does_nothing_and_all_that_was_made_is_removed(aws, deployment):
    name = f"deploy-{secrets.token_hex(4)}"
    lambdas = aws("lambda")
    assert done(list(deployment(name, is_dry=True).apply())) == ["would be made"] * 4
    assert list(deployment(name).remove()) == [
        f"there is nothing of a function {name} in {lambdas.meta.region_name}."
    ]
    assert done(list(deployment(name).apply())) == ["made"] * 4
    changed = list(deployment(name, lambda_memory=256).apply())
    assert changed[-1] == f"changed: MemorySize of function {name}"
    assert done(list(deployment(name, is_dry=True).remove())) == ["would be removed"] * 3
    assert done(list(deployment(name).remove())) == ["removed"] * 3
    with pytest.raises(lambdas.exceptions.ResourceNotFoundException):
        lambdas.get_function(FunctionName=name)
    iam = aws("iam")
    assert not [role for role in iam.list_roles()["Roles"] if name in role["RoleName"]]
    assert not aws("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]


def test_in_a_vpc_it_has_its_network_and_the_rights_for_that_and_out_of_it_neither(aws, deployment):
    name = f"deploy-{secrets.token_hex(4)}"
    subnet = aws("ec2").describe_subnets()["Subnets"][0]
    (group,) = aws("ec2").describe_security_groups(
        Filters=[
            {"Name": "vpc-id", "Values": [subnet["VpcId"]]},
            {"Name": "group-name", "Values": ["default"]},
        ]
    )["SecurityGroups"]
    wish = Wish(vpc=(group["GroupId"], subnet["SubnetId"]))
    list(deployment(name, wish).apply())
    lambdas = aws("lambda")
    configuration = lambdas.get_function(FunctionName=name)["Configuration"]
    assert configuration["VpcConfig"]["SubnetIds"] == [subnet["SubnetId"]]
    role = configuration["Role"].rpartition("/")[2]

    def actions() -> str:
        return json.dumps(aws("iam").get_role_policy(RoleName=role, PolicyName="cloudpool")["PolicyDocument"])

    assert "ec2:CreateNetworkInterface" in actions()
    assert done(list(deployment(name, wish).apply())) == ["unchanged"] * 2
    assert done(list(deployment(name).apply())) == ["changed"] * 2
    assert "ec2:" not in actions()


def test_what_somebody_else_has_made_is_left_alone(name, aws, deployment, functions):
    theirs = functions.make()
    with pytest.raises(RunnerError, match="was not made by `deploy lambda`, and is left alone"):
        list(deployment(theirs).apply())
    with pytest.raises(RunnerError, match="Choose another name: --name"):
        list(deployment(theirs).remove())
    assert aws("lambda").get_function(FunctionName=theirs)
    functions.delete(theirs)


def test_a_large_package_goes_through_a_bucket_where_nothing_stays(aws, deployment, monkeypatch):
    name = f"deploy-{secrets.token_hex(4)}"
    monkeypatch.setattr(function, "MOST_DIRECT", 1 << 20)
    with pytest.raises(RunnerError, match=r"and Lambda takes 1 from here; .*\n.*--bucket NAME"):
        list(deployment(name).apply())
    bucket = f"cloudpool-{secrets.token_hex(6)}"
    s3 = aws("s3")
    s3.create_bucket(Bucket=bucket)
    assert "made" in done(list(deployment(name, Wish(bucket=bucket)).apply()))
    assert aws("lambda").get_function(FunctionName=name)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    s3.delete_bucket(Bucket=bucket)


# Rights that have another name than the operation, or that an operation needs besides.
ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction"}
BESIDES = {
    "iam:CreateRole": "iam:TagRole",
    "logs:CreateLogGroup": "logs:TagLogGroup",
    "lambda:CreateFunction": "iam:PassRole",
}


def test_the_rights_of_the_documentation_are_those_that_are_used(
    name, aws, deployment, functions, monkeypatch
):
    used: set[str] = set()
    plain = Account.client

    def client(self: Account, service: str, **config: Any) -> Any:
        made = plain(self, service, **config)
        made.meta.events.register("before-call", lambda model, **_: used.add(f"{service}:{model.name}"))
        return made

    monkeypatch.setattr(Account, "client", client)
    other = f"deploy-{secrets.token_hex(4)}"
    for memory in (MEMORY, 256):
        list(deployment(other, lambda_memory=memory).apply())
    list(deployment(other, lambda_memory=256, lambda_timeout_s=30).apply())
    found = deployment(other)
    found._functions.get_function_configuration(FunctionName=other)
    found._replace_code(package.build())
    list(found.remove())
    chosen = settings.read({"lambda_function": name}, {}, "/")
    list(lambda_probe.checks(chosen))
    lambda_probe.Function(Account(chosen, "").client("lambda"), chosen, "").concurrency()
    used = {ACTIONS.get(action, action) for action in used}
    used |= {BESIDES[action] for action in used & set(BESIDES)}

    def given(file: str) -> set[str]:
        statements = json.loads((DOCS / file).read_text(encoding="utf-8"))["Statement"]
        return {
            action
            for s in statements
            for action in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])
        }

    assert used - given("deploy.json") == set()
    # TagResource is what the two are called where tags are newer.
    assert {a for a in given("deploy.json") - used if not fnmatch(a, "*:TagResource")} == {
        "lambda:InvokeFunction"
    } - used
    assert given("run.json") == {"lambda:InvokeFunction", "lambda:GetFunctionConfiguration"}


def test_the_doctor_walks_every_hop(name, redis):
    said = command(
        "doctor", "--on", "lambda",
        CLOUDPOOL_LAMBDA_FUNCTION=name, CLOUDPOOL_REDIS_URL=redis.url, CLOUDPOOL_ALLOW_PLAIN_TCP="1",
    )  # fmt: skip
    assert [line.partition(":")[0] for line in said] == [
        f"ok      {what}"
        for what in (
            "configuration", "credentials", "function", "right to invoke it", "events", "invocations at once", "server from here",
            "invocation", "versions", "clocks", "server from a function", "a Process", "a Pool",
        )
    ]  # fmt: skip


def test_the_doctor_stops_at_what_is_missing_and_names_the_cure(name, monkeypatch):
    def last(**chosen: object) -> str:
        check = list(lambda_probe.checks(settings.read({"lambda_function": name, **chosen}, {}, "/")))[-1]
        assert not check.is_ok
        return f"{check.what}: {check.words}"

    assert last().startswith("server from here: no server is named, and none can be in a function")
    assert "is this machine's own loopback" in last(redis_url="redis://127.0.0.1:1")
    assert last(lambda_function="deploy-nobody-has-this").endswith("python -m cloudpool deploy lambda")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert last().startswith("credentials: AWS cannot be asked")


def test_gc_says_that_there_is_nothing_to_remove():
    assert command("gc", "--on", "lambda")[0].startswith("sessions leave nothing on Lambda")


WHERE = """
import cloudpool as multiprocessing, os

def where(x):
    return x * x, os.environ["AWS_LAMBDA_FUNCTION_NAME"]

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(where, range(3)))
"""


@pytest.mark.skipif("TEST_LAMBDA_IMAGE" not in os.environ, reason="TEST_LAMBDA_IMAGE names no image")
def test_a_function_of_an_image(functions, program):
    name = f"image-{secrets.token_hex(4)}"
    options = ("--name", name, "--image", os.environ["TEST_LAMBDA_IMAGE"])
    assert done(command("deploy", "lambda", *options)) == ["made"] * 4
    try:
        assert done(command("deploy", "lambda", *options)) == ["unchanged"] * 2
        code, said, complained = program(WHERE, name).end()
        assert (code, complained) == (0, "")
        assert said == f"{[(x * x, name) for x in range(3)]}\n"
    finally:
        assert done(command("deploy", "lambda", "--name", name, "--delete")) == ["removed"] * 3


COSTS = """
import cloudpool as multiprocessing, time

def work(x):
    time.sleep(0.1)
    return x * x

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        pool.map(work, range(4), chunksize=1)
        before = pool.stats()
        pool.map(work, range(20), chunksize=1)
        cost = (pool.stats() - before).cost
        print(pool.stats().cost.invocations, cost.memory_mb, cost.gb_s > 0.5, cost.usd < pool.stats().cost.usd)
"""


def test_what_a_call_has_cost_and_at_the_end_what_the_program_has(name, program):
    code, said, complained = program(COSTS, name, stats=1).end()
    assert (code, said.split()[1:]) == (0, [str(MEMORY), "True", "True"])
    assert 1 <= int(said.split()[0]) <= 2
    (line,) = complained.splitlines()
    assert line.startswith("cloudpool: Job ")
    assert f", Function {name}, Invocations {said.split()[0]}, Memory {MEMORY} MB, Avg run time " in line


BUDGET = """
import cloudpool as multiprocessing, sys, time

def work(x):
    time.sleep(0.2)

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        try:
            pool.map(work, range(10_000), chunksize=1)
        except multiprocessing.errors.RunnerError as error:
            print(str(error).replace(chr(10), " "))
        end = time.monotonic() + 30
        while pool.stats().cost.running and time.monotonic() < end:
            time.sleep(0.1)
        cost, tasks = pool.stats().cost, pool.stats().tasks
        print(cost.running, cost.usd <= float(sys.argv[1]), cost.usd > 0, 0 < tasks < 10_000)
"""
BUDGET_USD = 0.0006


def test_a_budget_ends_all_before_it_is_passed_and_says_what_was_done(name, program):
    source = BUDGET.replace("sys.argv[1]", repr(str(BUDGET_USD)))
    began = time.monotonic()
    code, said, complained = program(source, name, budget_usd=BUDGET_USD, lambda_memory=MEMORY).end()
    assert code == 0, complained
    error, summary = said.splitlines()
    assert error.startswith(f"the budget of ${BUDGET_USD:g} (CLOUDPOOL_BUDGET_USD) could be passed: ")
    assert "were told to end, and no more are started." in error
    assert summary == "0 True True True", f"after {time.monotonic() - began:.0f} s"


def test_a_budget_that_allows_no_host_starts_none(name, program):
    source = BUDGET.replace("sys.argv[1]", "'0.00001'")
    code, said, _ = program(source, name, budget_usd=0.00001).end()
    assert code == 0
    assert "So no host is started." in said.splitlines()[0]
    assert said.splitlines()[1] == "0 True False False"
