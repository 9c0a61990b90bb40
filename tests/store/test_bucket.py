"""Storage for large payloads, where it cannot be used: each way of that is a BlobStoreError, and none holds up who cleans up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cloudpool.errors import BlobStoreError
from cloudpool.host.membership import Session
from cloudpool.store.bucket import Bucket, Place

NONE = Place("nowhere://bucket/cloudpool-session-now")


def test_storage_that_cannot_be_found_is_an_error_of_the_storage():
    with pytest.raises(BlobStoreError, match=r"nowhere://bucket/cloudpool-session-now .* cannot be used"):
        Bucket(NONE)


def test_who_buries_a_session_does_not_stumble_over_its_storage():
    session: Any = SimpleNamespace(info=SimpleNamespace(place=NONE, redis_url=None))
    Session._bury_in_server(session)


class Objects(list[str]):
    """A store of names alone."""

    def list(self, prefix: str) -> Any:
        return [SimpleNamespace(key=key) for key in self if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        self.remove(key)


def test_clearing_ends_when_its_time_is_over():
    bucket = Bucket(Place("s3://bucket/cloudpool-session-now", region="eu-west-1", keys=("nobody", "secret")))
    bucket._store = Objects([bucket._key("blob.1.7.1.0"), bucket._key("blob.1.7.1.1"), "other"])
    with pytest.raises(BlobStoreError, match="keeps what the session left: it takes longer than -1 s"):
        bucket.clear(within_s=-1)
    assert len(bucket._store) == 3
    bucket.clear(within_s=60)
    assert bucket._store == ["other"]
