"""What AWS Lambda calls: a function whose handler is `cloudpool.function.handle` is where hosts come from.

    event   {"card": base64 of what a host must know, "number": which host it is to be}
            {"card": ..., "is_trial": True}: it only says whether it could be one
            {"probe": URL of a server, or null}: what the doctor asks, answered by deploy/probe.py
    answer  {"number": ..., "said": why it could not be that host, or ""}

It never raises, since a failed invocation is tried again by Lambda: who needs the host asks for another.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
from typing import Any

from cloudpool.context import arrival
from cloudpool.host import identity, invocation
from cloudpool.host.term import Term
from cloudpool.host.usage import Meter
from cloudpool.runners import manifest

__all__ = ["handle"]

if (
    "AWS_LAMBDA_RUNTIME_API" in os.environ
):  # once an environment, not once an invocation: hosts are forked from here
    identity.install()
    manifest.versions()
    for _name in arrival.PRELOADED:
        importlib.import_module(_name)


def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
    if isinstance(event, dict) and "probe" in event:
        from cloudpool.deploy import probe  # the doctor's question: cold starts go without

        return probe.said(event["probe"])
    meter = Meter(context)
    term = Term(context.get_remaining_time_in_millis() / 1000, meter)
    try:
        card, is_trial = base64.b64decode(event["card"]), bool(event.get("is_trial"))
        number = 0 if is_trial else int(event["number"])
    except (KeyError, TypeError, ValueError):
        said = "this function is where hosts of cloudpool come from: it is invoked by programs with the start method lambda."
    else:
        if is_trial:
            return {"number": None, "said": invocation.trial(card)}
        try:
            said = invocation.serve(card, number, term, arrival.run, arrival.PRELOADED)
        except Exception as error:  # noqa: BLE001 - no process, no descriptor: Lambda would try a failed invocation again
            said = f"the host could not begin here, or not end in order: {error!r}"
    answer = {"number": event.get("number") if isinstance(event, dict) else None, "said": said}
    if said:
        print(json.dumps(answer), flush=True)  # for the function's log: nobody reads the answer to an event
    return answer
