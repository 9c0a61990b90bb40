"""Lines of agents to a server of one's own."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from cloudpool.errors import ServerError
from cloudpool.host.line import FarLine
from cloudpool.settings import ServerUrl


def test_host_whose_session_ends_at_its_claim_makes_no_key_anew(tcp_server, tmp_path):
    never, stays_open = os.pipe()
    line = FarLine("session", str(tmp_path), ServerUrl(tcp_server.url), 5, False, never)
    with closing(line.store), closing(tcp_server.connect()) as store:
        with pytest.raises(ServerError, match="the session is over"):
            line._claim(1)
        assert store.call("KEYS", "*") == []
    os.close(never)
    os.close(stays_open)
