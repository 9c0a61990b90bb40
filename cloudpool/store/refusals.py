"""What a server's refusals mean: its error replies, by code, as errors that say what happened and what to do."""

from __future__ import annotations

from cloudpool.errors import ServerError, ServerOutOfMemory
from cloudpool.store.wire import ReplyError

# The command did not run, and may be sent again by and by: the server reads its data, or a script of someone else runs.
NOT_YET = frozenset({"LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN"})
# The command did not run, since the server is a replica by now: whoever asks for the primary again may be given another.
NO_PRIMARY = frozenset({"READONLY", "UNBLOCKED"})
# What was posted did not run, and is run again as a call: that waits, dials, or brings the script.
SEND_AGAIN = NOT_YET | NO_PRIMARY | {"NOSCRIPT"}

CLUSTER = (
    "the server is a node of a Cluster, where a session's keys would be on several servers.\n"
    "cloudpool needs one server (with replicas, if you like): set CLOUDPOOL_REDIS_URL to one, or unset it."
)
FULL_HOUSE = (
    "the server takes no more connections (its maxclients, or its limit of open files, is reached).\n"
    "Each process and thread that uses a shared object has one: raise maxclients, or start fewer."
)

_SAID = {
    "NOPERM": "the server's ACL does not let this user do that: {error}",
    "NOAUTH": "the server wants a password ({error}).\nSet CLOUDPOOL_REDIS_URL to redis://USER:PASSWORD@HOST:PORT/0.",
    "READONLY": "the server is a replica, which takes no writes ({error}).\nSet CLOUDPOOL_REDIS_URL to its primary.",
    "LOADING": "the server is still reading its data ({error}).\nTry again when it has.",
    "BUSY": "a script of someone else keeps the server busy ({error}).\nEnd it by SCRIPT KILL.",
    "MISCONF": "the server takes no writes, since it cannot save its data ({error}).\n"
    "Give its disk room or rights, or let it go on without: CONFIG SET stop-writes-on-bgsave-error no",
    "NOREPLICAS": "the server takes no writes, since too few of its replicas are there ({error}).\n"
    "Start them, or lower its min-replicas-to-write.",
    "MOVED": CLUSTER,
    "ASK": CLUSTER,
    "CROSSSLOT": CLUSTER,
    "CLUSTERDOWN": CLUSTER,
}


def as_ours(error: ReplyError) -> Exception:
    """The error that says what to do; replies of no known meaning as they are."""
    if error.code == "OOM":
        return ServerOutOfMemory()
    if "max number of clients" in str(error):
        return ServerError(FULL_HOUSE)
    # A long command of someone who has not logged in is a breach of the protocol to the server.
    code = "NOAUTH" if "unauthenticated" in str(error) else error.code
    if code in _SAID:
        return ServerError(_SAID[code].format(error=str(error).rstrip(".")))
    return error
