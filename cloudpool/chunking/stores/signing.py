"""AWS Signature Version 4 for S3: what makes a request someone's. As in AWS's "Authenticating Requests (Signature Version 4)"."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from cloudpool.chunking.stores.credentials import Keys

NO_BODY = hashlib.sha256(b"").hexdigest()


def path_of(key: str) -> str:
    """A key as it stands in a request: every byte but letters, digits and -._~/ is escaped."""
    return quote(key.encode("utf-8", "surrogateescape"), safe="-._~/")


def query_of(parameters: Mapping[str, str]) -> str:
    return "&".join(
        f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}"
        for name, value in sorted(parameters.items())
    )


def signed(
    method: str, host: str, path: str, query: str, headers: Mapping[str, str], body: bytes | None, keys: Keys,
    region: str,
) -> dict[str, str]:  # fmt: skip
    """The headers with those that prove who asks."""
    now = datetime.now(UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest() if body else NO_BODY
    full = {**headers, "Host": host, "x-amz-date": stamp, "x-amz-content-sha256": digest}
    if keys.token:
        full["x-amz-security-token"] = keys.token
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in full.items())
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join((method, path, query, *(f"{n}:{v}" for n, v in lines), "", names, digest))
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = ("AWS4" + keys.secret_key).encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    full["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return full
