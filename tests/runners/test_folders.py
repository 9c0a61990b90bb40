"""Whether a folder of this machine (blob_url=file:...) can be one of hosts, too, as runners know it without asking."""

from __future__ import annotations

import pytest

from cloudpool import settings
from cloudpool.runners.aws_lambda import LambdaRunner


@pytest.mark.parametrize(("path", "can_be"), [("/mnt/payloads", True), ("/tmp/payloads", False)])
def test_function_has_file_systems_below_mnt_alone(path, can_be):
    assert LambdaRunner.shares_folder(settings.current(), path) == can_be


@pytest.mark.parametrize(("patch", "can_be"), [("", False), ('{"volumes": [{"name": "payloads"}]}', True)])
def test_pods_have_volumes_that_a_patch_names(monkeypatch, patch, can_be):
    runner = pytest.importorskip("cloudpool.runners.kubernetes").KubernetesRunner
    monkeypatch.setenv("CLOUDPOOL_KUBERNETES_POD_PATCH", patch or "{}")
    settings.reload()
    try:
        assert runner.shares_folder(settings.current(), "/payloads") == can_be
    finally:
        monkeypatch.undo()
        settings.reload()
