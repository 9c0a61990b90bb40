"""The rights of a function's own role."""

from __future__ import annotations

from typing import Any

from cloudpool.deploy.function_role import rights


def statements(blobs: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rights("eu-west-1", "/aws/lambda/f", blobs, is_in_vpc=False)["Statement"]
    return found[1:]


def test_function_without_storage_has_no_right_there():
    assert statements("") == []


def test_function_may_do_in_its_storage_what_that_needs_and_nothing_beside_it():
    objects, listing = statements("bucket/one/two")
    assert objects["Resource"] == "arn:aws:s3:::bucket/one/two/*"
    assert (listing["Action"], listing["Resource"]) == ("s3:ListBucket", "arn:aws:s3:::bucket")
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "one/two/*"}}


def test_storage_that_is_a_whole_bucket_is_listed_as_a_whole():
    objects, listing = statements("bucket")
    assert objects["Resource"] == "arn:aws:s3:::bucket/*"
    assert "Condition" not in listing
