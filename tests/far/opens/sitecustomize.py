"""On hosts whose PYTHONPATH has this folder: each file below $TEST_OPENS_BELOW that is opened for reading is a line in $TEST_OPENS."""

import os
import sys

BELOW, LOG = os.environ.get("TEST_OPENS_BELOW", ""), os.environ.get("TEST_OPENS", "")


def note(event, arguments):
    if event != "open" or not isinstance(path := arguments[0], str) or not path.startswith(BELOW):
        return
    if not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(log, os.path.basename(path).encode() + b"\n")  # whole: it is short
        os.close(log)


if BELOW and LOG:
    sys.addaudithook(note)
