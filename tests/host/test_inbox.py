"""A reader's letters in the server."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from cloudpool.host import inbox
from cloudpool.store.keys import Keys
from cloudpool.store.wire import Connection


def test_letters_that_were_read_do_not_count_as_unread(
    store: Connection, dial: Callable[[], Connection]
) -> None:
    post = inbox.Post(Keys(f"test-{uuid.uuid4()}"), 60_000, None)
    reader = inbox.Inbox("host.1", post, dial, "reader")
    read = len(reader.read())  # the one that has opened it
    for number in range(300):
        store.call(*post.command("host.1", ("letter", number)))
        read += len(reader.read())
        assert store.call("XLEN", post.key("host.1")) <= 60
    assert read == 301
    for number in range(300):
        store.call(*post.command("host.1", ("letter", number)))
    read = 0
    while read < 300:
        read += len(reader.read())
    assert store.call("XLEN", post.key("host.1")) <= 60
    reader.close()
    store.call("DEL", post.key("host.1"))
    store.call("DEL", post.keys.objects)
