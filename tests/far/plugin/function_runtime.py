"""A function's environment on this machine, for one invocation: `python function_runtime.py SECONDS NUMBER`, the card on stdin.

Its handler is the real one; what there is of Lambda is the deadline.
"""

import base64
import os
import sys
import time

from cloudpool import function


class Context:
    aws_request_id = "one"
    function_name = "of-this-machine"
    memory_limit_in_mb = "128"

    def __init__(self, limit_s):
        self._ends_at = time.monotonic() + limit_s

    def get_remaining_time_in_millis(self):
        return 1000 * (self._ends_at - time.monotonic())


def main():
    limit_s, number = float(sys.argv[1]), int(sys.argv[2])
    event = {"card": base64.b64encode(sys.stdin.buffer.readline()).decode(), "number": number}
    answer = function.handle(event, Context(limit_s))
    if answer["said"]:
        sys.stderr.write(answer["said"] + "\n")  # at once: others write there, too
    os._exit(bool(answer["said"]))


main()
