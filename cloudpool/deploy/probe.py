"""What a container of an image, or a function, says of itself: versions, clock, and the way from there to the server.

python3 -m cloudpool.deploy.probe [FOLDER]         FOLDER/url is the server's; one line of JSON to stdout
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import Any

from cloudpool.errors import CloudpoolError
from cloudpool.runners import manifest
from cloudpool.store.wire import ReplyError, open_url

TRIPS = 20
LAST_WORDS = "/dev/termination-log"  # what Kubernetes reads when the container has ended


def main() -> None:
    url = None
    if len(sys.argv) > 1:
        with open(os.path.join(sys.argv[1], "url"), encoding="utf-8") as file:
            url = file.read()
    line = json.dumps(said(url))
    print(line)
    with suppress(OSError), open(LAST_WORDS, "w", encoding="utf-8") as file:
        file.write(line)


def said(url: str | None) -> dict[str, Any]:
    """What there is to say, and, of the server of that URL, how far away it is."""
    found: dict[str, Any] = {"versions": manifest.versions(), "time": time.time()}
    if url:
        try:
            found["trip_ms"] = trip_ms(url)
        except (CloudpoolError, ReplyError, OSError) as error:
            found["error"] = str(error)
    return found


def trip_ms(url: str) -> float:
    """Milliseconds to the server and back, the best of some. Raises ServerError, ReplyError, OSError."""
    line = open_url(url)
    best = float("inf")
    for _ in range(TRIPS):
        begin = time.perf_counter()
        line.call("PING")
        best = min(best, time.perf_counter() - begin)
    line.close()
    return round(1000 * best, 2)


if __name__ == "__main__":
    main()
