"""The runner of Lambda, as far as it needs no engine."""

from contextlib import closing

import pytest
from needed import needed
from waiting import until

from cloudpool import settings
from cloudpool.runners import aws_lambda
from cloudpool.runners.runner import Order


@pytest.mark.parametrize("answer", [b'"done"', b"null", b"7", b"<html>", b'{"statusCode": 200}'])
def test_a_function_that_is_another_programs_is_told_of(answer):
    assert "another program's" in aws_lambda._said_by(answer)


def test_what_a_function_says_of_a_trial_is_said():
    assert aws_lambda._said_by(b'{"number": null, "said": ""}') == ""
    assert aws_lambda._said_by(b'{"number": null, "said": "it cannot"}') == "it cannot"
    assert aws_lambda._said_by(b'{"errorMessage": "no module", "errorType": "X"}') == "no module"


def test_an_endpoint_out_of_reach_is_told_of_with_how_long_it_is_tried_and_what_checks_it(
    monkeypatch, tmp_path
):
    needed("boto3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-nobody")
    chosen = settings.read({"lambda_region": "eu-west-1", "start_timeout_s": 70}, {}, str(tmp_path))
    with closing(aws_lambda.LambdaRunner(Order("session", chosen, b"card", None))) as runner:
        runner.start(range(1))
        until(runner.waiting)
        why = runner.waiting()
    assert 'tried again: Could not connect to the endpoint URL: "http://127.0.0.1:1/' in why
    assert "python -m cloudpool doctor --on lambda" in why
    assert "70 s (start_timeout_s)" in why
    assert why.count("\n") == 1
