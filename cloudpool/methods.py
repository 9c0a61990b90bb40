"""The start methods: the stdlib's three, on this host, and those of the runners of far hosts, found by entry point.

A runner is a class (runners.runner.Runner) that an installed distribution names in the group `cloudpool.runners`; the
entry point's name is the start method.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["is_far", "names", "runner"]

GROUP = "cloudpool.runners"
LOCAL = ("fork", "spawn", "forkserver")
# Ours are known without a look at what is installed, which takes milliseconds.
OURS = {
    "docker": "cloudpool.runners.docker:DockerRunner",
    "kubernetes": "cloudpool.runners.kubernetes:KubernetesRunner",
    "lambda": "cloudpool.runners.aws_lambda:LambdaRunner",
}


def names() -> list[str]:
    return [*LOCAL, *OURS, *(name for name in _others() if name not in OURS)]


def is_far(method: str) -> bool:
    return method not in LOCAL and (method in OURS or method in _others())


def runner(method: str) -> Any:
    """The class of the runner that a start method names."""
    from importlib import metadata

    if method in OURS:
        return metadata.EntryPoint(method, OURS[method], GROUP).load()
    return _others()[method].load()


@cache
def _others() -> dict[str, Any]:
    from importlib import metadata

    return {point.name: point for point in metadata.entry_points(group=GROUP)}
