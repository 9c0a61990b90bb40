"""Which of the environment goes along to other hosts."""

from __future__ import annotations

import pytest

from cloudpool.runners import manifest

SECRET = {
    "MYSQL_PWD": "x", "GPG_PASSPHRASE": "x", "STRIPE_KEY": "x", "MINIO_ACCESS_KEY": "x", "ENCRYPTION_KEY": "x",
    "SIGNING_KEY": "x", "SECRETKEY": "x", "GITHUB_PAT": "x", "REDISCLI_AUTH": "x", "SENTRY_DSN": "https://1@s.io/2",
    "DATABASE_URL": "postgres://me:word@db:5432/all", "CACHE": "redis://:word@cache:6379", "API_KEY": "x", "APIKEY": "x",
    "MY_PASSWORD": "x", "GH_TOKEN": "x", "SECRET_KEY_BASE": "x", "PGPASSWORD": "x", "PRIVATE_KEY_FILE": "x",
}  # fmt: skip
PLAIN = {
    "PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "2", "KEYBOARD": "us", "MONKEY": "x", "PATTERN": "x",
    "AUTHOR": "x", "COMPAT": "1", "TOKENIZERS_PARALLELISM": "false", "DATABASE_HOST": "postgres://db:5432/all",
    "INDEX": "https://me@index:443/simple", "TZ": "UTC", "KEYS": "a:b@c",
}  # fmt: skip


def test_secrets_stay_and_the_rest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRET, **PLAIN}.items():
        monkeypatch.setenv(name, value)
    sent = manifest.environ()
    assert sorted(SECRET.keys() & sent.keys()) == []
    assert sorted(PLAIN.keys() - sent.keys()) == []
