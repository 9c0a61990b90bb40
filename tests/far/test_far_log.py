"""The log of shared memory, as the agents of two hosts use it: what is in it, in which order, and how long it is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import until

from cloudpool.host import folder as folders, parcels
from cloudpool.host.blocks import ALL, MOST_UNSAID_BYTES, MOST_UNSAID_S, Blocks
from cloudpool.host.line import Line
from cloudpool.store.binary import find_server
from cloudpool.store.embedded import Server

BLOCK = "block.1.1.1"


class SlowLine(Line):
    """What is said together may have something of others in between: here it does, after whatever is appended."""

    in_between: Callable[[], object] | None = None

    def call_many(self, commands):
        replies = []
        for command in commands:
            replies += super().call_many([command])
            if command[0] == "XADD" and (others := self.in_between) is not None:
                self.in_between = None
                others()
        return replies


class Host:
    def __init__(self, epoch: int, folder: str, server: str) -> None:
        os.mkdir(folder)
        os.symlink(server, os.path.join(folder, folders.SERVER_SOCKET))
        Path(folder, folders.SPREAD).write_bytes(b"\0")
        self.line = SlowLine("log", folder, "", 5.0, False, os.pidfd_open(os.getpid()))
        self.blocks = Blocks(folder, epoch, self.line, None)
        self.epoch, self.folder = epoch, folder

    def make(self, block: str, size: int) -> None:
        Path(self.folder, block).write_bytes(bytes(size))

    def memory(self, block: str = BLOCK):
        return self.blocks._segments[block].memory

    def read_to(self) -> bytes | None:
        return self.line.call("HGET", self.line.keys.readers, self.epoch)

    def close(self) -> None:
        self.line.store.close()
        os.close(self.line._root_pidfd)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    folder, making = folders.make()
    socket = os.path.join(folder, folders.SERVER_SOCKET)
    server = Server.start(find_server(), folder, socket)
    try:
        server.await_ready()
        pair = Host(1, str(tmp_path / "1"), socket), Host(2, str(tmp_path / "2"), socket)
        yield pair
        for host in pair:
            host.close()
    finally:
        server.stop()
        folders.remove(folder)
        os.close(making)


def share(hosts: tuple[Host, Host], size: int = 16) -> None:
    one, two = hosts
    one.make(BLOCK, size)
    two.blocks.join()
    one.blocks.publish(BLOCK)
    two.blocks.adopt(BLOCK)


def test_hosts_agree_on_a_byte_that_both_write(hosts):
    """The second writes between what the first appends and what it reads."""
    share(hosts)
    one, two = hosts
    one.memory()[:2], two.memory()[:1] = b"\1\1", b"\2"
    one.line.in_between = two.blocks.sync
    one.blocks.sync()
    two.blocks.sync()
    assert one.memory()[:2] == two.memory()[:2] == b"\2\1"


def test_a_wish_for_a_block_is_fulfilled_once(hosts):
    one, two = hosts
    one.make(BLOCK, 5)
    key = parcels.content(one.line.keys, one.blocks.parcel(BLOCK))
    assert one.blocks.publish_for(two.epoch, 1, BLOCK) == 5
    one.line.call("HSET", key, "after", "mark")
    assert one.blocks.publish_for(two.epoch, 1, BLOCK) == 5
    assert one.line.call("HGET", key, "after") == b"mark"
    assert one.blocks.publish_for(two.epoch, 2, BLOCK) == 5  # it has dropped it since, and come by it again
    assert one.line.call("HGET", key, "after") != b"mark"
    one.blocks.forget(BLOCK)
    os.unlink(os.path.join(one.folder, BLOCK))
    assert one.blocks.publish_for(two.epoch, 2, BLOCK) == 0


def test_a_host_tells_how_far_it_has_read_by_bytes(hosts):
    share(hosts, MOST_UNSAID_BYTES)
    one, two = hosts
    assert two.read_to() == ALL
    one.memory()[:] = b"\1" * MOST_UNSAID_BYTES
    one.blocks.sync()
    two.blocks.sync()
    assert two.read_to() == two.blocks._after != ALL


def test_a_host_that_looks_tells_how_far_it_has_read(hosts):
    share(hosts)
    one, two = hosts
    one.memory()[0] = 1
    one.blocks.sync()
    two.blocks.awaited = ("block.1.1.2",)  # it may lack what is in the log already
    until(lambda: two.blocks.look() or time.monotonic() > two.blocks._said_at + MOST_UNSAID_S)
    two.blocks.look()
    assert two.read_to() == ALL
    two.blocks.awaited = ()
    two.blocks.look()
    assert two.read_to() == two.blocks._after != ALL


def test_the_log_is_not_kept_for_a_host_without_blocks(hosts):
    share(hosts)
    two = hosts[1]
    two.blocks.forget(BLOCK)
    assert two.read_to() is None
    two.blocks.join()
    two.blocks.adopt(BLOCK)
    assert two.read_to() == ALL


def test_block_that_is_gone_is_not_adopted(hosts):
    one, two = hosts
    two.blocks.join()
    two.blocks.adopt(BLOCK)
    assert not two.blocks.knows(BLOCK)
    one.make(BLOCK, 5)
    one.blocks.publish(BLOCK)
    one.line.call("HDEL", parcels.content(one.line.keys, one.blocks.parcel(BLOCK)), 0)
    two.blocks.adopt(BLOCK)
    assert not two.blocks.is_here(BLOCK)
