"""Questions of far processes to the root's machine, which their fleet answers: what is installed there, what files exist.

far process --("asked", id, ...) letter--> fleet --answer, once--> {id}:answer --> all who ask the same
"""

from __future__ import annotations

import json
from typing import Any

from cloudpool.host.inbox import Post, fleet_id
from cloudpool.host.membership import Session

SLICE_S = 10.0  # then it is asked again: a fleet may have died with the letter


class Questions:
    """One process's. `method` names the fleet."""

    def __init__(self, session: Session, method: str) -> None:
        self._session, self._fleet = session, fleet_id(method)

    def ask(self, about: str, *what: str) -> Any:
        """The answer to a question, of which there is one for each `about`. Blocks until the fleet has answered."""
        session = self._session
        object_id = f"question.{about}"
        key, channel = session.keys.base(object_id) + "answer", session.channel()
        post = Post(session.keys, session.ttl_ms, session.sealer)
        said = channel.call("LINDEX", key, 0)
        while said is None:
            channel.call(*post.command(self._fleet, ("asked", about, *what)))
            # From the list to itself: others may ask the same.
            said = channel.block(lambda seconds: ("BLMOVE", key, key, "LEFT", "LEFT", seconds), SLICE_S)
        if session.sealer is not None:
            said = session.sealer.open(said, f"{object_id} answer".encode())
        return json.loads(said)

    def content(self, about: str) -> bytes:
        """What came with the answer. Raises FileNotFoundError, BlobStoreError."""
        return b"".join(self._session.fetch(f"question.{about}"))
