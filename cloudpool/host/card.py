"""What a host must know to be one of a session's: secret, since it has the server's password and the session's key.

JSON, so that a host with another Python can read it, and say that it has.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import NamedTuple

from cloudpool.errors import CloudpoolError
from cloudpool.host.session import Key
from cloudpool.settings import ServerUrl
from cloudpool.store.bucket import Place


class Card(NamedTuple):
    session: str
    url: ServerUrl  # "" for the server whose socket is in the root's folder
    key: Key
    lease_s: float
    durable: bool
    patience_s: float  # how long the root's host may be silent
    home: int  # the epoch of the root's host
    method: str
    python: str
    place: Place | None = None  # of large payloads

    def encode(self) -> bytes:
        fields = {
            **self._asdict(),
            "key": base64.b64encode(self.key).decode(),
            "url": str(self.url),
            "place": Place.encode(self.place),
        }
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Card:
        """Raises CloudpoolError when this host cannot be one of that session's."""
        fields = json.loads(data)
        if fields["python"] != (here := python()):
            raise CloudpoolError(
                f"this host has Python {here}, and the program that asked for it runs on {fields['python']}.\n"
                "Build an image with the same: python -m cloudpool image."
            )
        if fields.keys() != set(cls._fields):
            raise CloudpoolError(
                "this host has another cloudpool than the program that asked for it.\n"
                "Build an image with the same: python -m cloudpool image."
            )
        fields["key"] = Key(base64.b64decode(fields["key"]))
        fields["url"] = ServerUrl(fields["url"])
        fields["place"] = Place.decode(fields["place"])
        return cls(**fields)


def python() -> str:
    return "{}.{}".format(*sys.version_info[:2])
