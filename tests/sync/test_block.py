"""Blocks: memory that processes share, its place, and its end."""

import errno
import gc
import os

import pytest

from cloudpool.host import session as sessions
from cloudpool.sync.block import ARENA, SMALL, Block

LARGE = 10 * SMALL


def registered():
    session = sessions.current()
    return {i.decode() for i in session.channel().call("HKEYS", session.keys.objects)}


def files():
    return {name for name in os.listdir(sessions.current().info.folder) if name.startswith("block.")}


def agent_settled():
    """All that was said to the agent until now, and all deaths until now, have taken effect."""
    gc.collect()
    for _ in range(2):  # it hears messages before it looks at the deaths of the same moment
        sessions.current()._ask("settle")


def fill(block, byte):
    view = block.create_memoryview()
    view[:] = bytes([byte]) * len(view)


def is_filled(block, byte):
    return bytes(block.create_memoryview()) == bytes([byte]) * block.size


@pytest.mark.parametrize("size", [0, 1, 8, SMALL, SMALL + 1, LARGE])
def test_block_has_its_size_and_is_zero(size):
    block = Block(size)
    assert bytes(block.create_memoryview()) == bytes(size)
    fill(block, 7)
    assert is_filled(block, 7)


def test_blocks_do_not_overlap():
    blocks = [Block(size) for size in range(0, SMALL, 61)]
    assert sum(block.size for block in blocks) > ARENA  # so they are in several arenas
    for number, block in enumerate(blocks):
        fill(block, number % 256)
    assert all(is_filled(block, number % 256) for number, block in enumerate(blocks))


def test_small_blocks_share_files_and_descriptors_are_not_kept():
    agent_settled()
    files_before, descriptors_before = len(files()), len(os.listdir("/proc/self/fd"))
    small = [Block(8) for _ in range(500)]
    assert len(files()) - files_before <= 2
    large = [Block(LARGE) for _ in range(50)]
    assert len(files()) - files_before >= len(large)
    assert len(os.listdir("/proc/self/fd")) == descriptors_before
    assert not any(map(is_filled, small, [1] * len(small)))


@pytest.mark.parametrize("size", [8, LARGE])
def test_block_is_registered_when_it_is_made_and_goes_with_its_last_handle(size):
    Block(8)  # there is an arena
    agent_settled()
    before, files_before = registered(), files()
    block = Block(size)
    assert registered() - before == {block._id}
    assert files() - files_before == ({block._id} if size > SMALL else set())
    del block
    agent_settled()
    assert registered() == before
    assert files() == files_before


def test_arena_goes_with_the_last_block_in_it():
    blocks = [Block(SMALL) for _ in range(3 * ARENA // SMALL)]
    arenas = {block._arena._id for block in blocks}
    survivor = blocks[len(blocks) // 2]
    Block(8)
    del blocks
    agent_settled()
    gone = arenas - files()
    assert survivor._arena._id in arenas - gone
    assert len(gone) >= 1
    assert not gone & registered()
    fill(survivor, 5)
    assert is_filled(survivor, 5)


def test_view_can_be_used_when_its_block_is_gone():
    view = Block(LARGE).create_memoryview()
    agent_settled()
    view[:3] = b"abc"
    assert bytes(view[:4]) == b"abc\0"


def _answer(blocks):
    for number, block in enumerate(blocks):
        assert is_filled(block, number + 1)
        fill(block, number + 101)


def test_process_sees_the_blocks_it_was_given(ctx):
    blocks = [Block(size) for size in (1, 8, SMALL, LARGE)]
    for number, block in enumerate(blocks):
        fill(block, number + 1)
    process = ctx.Process(target=_answer, args=(blocks,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert all(is_filled(block, number + 101) for number, block in enumerate(blocks))


def _make_and_send(queue):
    blocks = [Block(size) for size in (8, LARGE)]
    for block in blocks:
        fill(block, 9)
    queue.put(blocks)


def test_block_in_a_message_outlives_its_maker(ctx):
    queue = ctx.Queue()
    mine = Block(8)
    process = ctx.Process(target=_make_and_send, args=(queue,))
    process.start()
    blocks = queue.get(timeout=30)
    process.join()
    agent_settled()
    after = Block(8)
    assert all(is_filled(block, 9) for block in blocks)
    assert is_filled(mine, 0)  # a forked child does not go on in its parent's arena
    assert is_filled(after, 0)
    names = {block._id for block in blocks}
    assert names <= registered()
    del blocks
    agent_settled()
    assert not names & (registered() | files())


def _keep(block, held, may_go):
    held.release()
    may_go.acquire()
    assert is_filled(block, 3)


def test_block_stays_while_another_process_has_it(ctx):
    block, held, may_go = Block(LARGE), ctx.Semaphore(0), ctx.Semaphore(0)
    fill(block, 3)
    name = block._id
    process = ctx.Process(target=_keep, args=(block, held, may_go))
    process.start()
    held.acquire()
    del block
    agent_settled()
    assert name in registered() & files()
    may_go.release()
    process.join()
    assert process.exitcode == 0
    agent_settled()
    assert name not in registered() | files()


def test_block_of_a_killed_process_goes(ctx):
    block, held, may_go = Block(LARGE), ctx.Semaphore(0), ctx.Semaphore(0)
    name = block._id
    process = ctx.Process(target=_keep, args=(block, held, may_go))
    process.start()
    held.acquire()
    del block
    process.kill()
    process.join()
    agent_settled()
    assert name not in registered() | files()


def test_more_than_there_is_room_for_is_an_error_that_says_so():
    agent_settled()
    before = registered(), files()
    with pytest.raises(OSError, match=r"No room for 1000000000000000 bytes .*\d+ are free in /") as caught:
        Block(10**15)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    del caught
    agent_settled()
    assert (registered(), files()) == before


def test_sizes_are_refused_as_the_stdlib_does():
    with pytest.raises(ValueError, match="out of range"):
        Block(-1)
    with pytest.raises(OverflowError, match="too large"):
        Block(2**63 - 1)
