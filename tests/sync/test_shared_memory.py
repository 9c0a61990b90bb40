"""SharedMemory, ShareableList and their manager."""

import os
import pickle
import subprocess
import sys
import textwrap
from multiprocessing import shared_memory as stdlib

import pytest

from cloudpool.context.shared_memory_manager import SharedMemoryManager
from cloudpool.host import session as sessions
from cloudpool.shared_memory import ShareableList, SharedMemory


def registered():
    """Blocks with a name: objects of earlier tests go when they may."""
    session = sessions.current()
    ids = session.channel().call("HKEYS", session.keys.objects)
    return {id.decode() for id in ids if id.startswith(b"block.shm.")}


def files():
    return {name for name in os.listdir(sessions.current().info.folder) if name.startswith("block.shm.")}


@pytest.fixture
def memory():
    made = SharedMemory(create=True, size=100)
    yield made
    made.close()
    made.unlink()


def program(text, *arguments):
    """Run another program, which is not of this session; what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(text), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _write(name, text):
    memory = SharedMemory(name)
    memory.buf[: len(text)] = text
    memory.close()


def _write_to(memory, text):
    memory.buf[: len(text)] = text


@pytest.mark.parametrize("by_name", [True, False])
def test_process_attaches_by_name_or_is_given_it(ctx, memory, by_name):
    process = ctx.Process(
        target=_write if by_name else _write_to, args=(memory.name if by_name else memory, b"hello")
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert bytes(memory.buf[:6]) == b"hello\0"


def _make(name):
    memory = SharedMemory(name, create=True, size=10)
    memory.buf[0] = 8


def test_memory_outlives_its_maker_until_it_is_unlinked(ctx):
    name = f"made-{os.getpid()}-{ctx.get_start_method()}"  # known to all of this user on this host
    process = ctx.Process(target=_make, args=(name,))
    process.start()
    process.join()
    attached = SharedMemory(name)
    assert attached.buf[0] == 8
    attached.unlink()
    attached.buf[1] = 9  # still mapped
    attached.close()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    again = SharedMemory(name, create=True, size=10)
    assert again.buf[0] == 0
    again.unlink()


def test_making_and_unlinking_arrive_at_the_server():
    before, files_before = registered(), files()
    memory = SharedMemory(create=True, size=10)
    (new,) = registered() - before
    assert new.startswith("block.shm.")  # on a server of one's own its name is hidden
    assert files() - files_before == {f"block.shm.{memory.name}"}
    memory.unlink()
    assert (registered(), files()) == (before, files_before)
    with pytest.raises(FileNotFoundError):
        memory.unlink()


def test_attributes_are_the_stdlibs(memory):
    assert isinstance(memory, stdlib.SharedMemory)
    assert memory.name.startswith("psm_")
    assert memory.size == len(memory.buf) == 100
    assert repr(memory) == f"SharedMemory({memory.name!r}, size=100)"
    attached = SharedMemory("/" + memory.name, track=False)
    attached.buf[0] = 1
    assert memory.buf[0] == 1
    view = attached.buf[:5]
    with pytest.raises(BufferError):
        attached.close()
    view.release()
    attached.close()
    attached.close()
    assert attached.buf is None


def test_bad_arguments_are_refused_as_the_stdlib_does(memory):
    for arguments in (
        {"create": True},
        {"create": True, "size": -1},
        {"create": False},
        {"name": "x", "size": -1},
    ):
        with pytest.raises(ValueError, match=r"'size'|'name'"):
            SharedMemory(**arguments)
    with pytest.raises(FileExistsError):
        SharedMemory(memory.name, create=True, size=1)
    with pytest.raises(FileNotFoundError):
        SharedMemory("nothing-of-this-name")
    with pytest.raises(ValueError, match="null"):
        SharedMemory("a\0b", create=True, size=1)
    with pytest.raises(OSError, match="Invalid argument"):
        SharedMemory("../agent.sock")


def test_more_than_there_is_room_for_is_an_error_that_says_so():
    before, files_before = registered(), files()
    with pytest.raises(OSError, match="No room for 1000000000000000 bytes"):
        SharedMemory(create=True, size=10**15)
    assert (registered(), files()) == (before, files_before)


def test_a_file_among_the_sessions_folders_is_passed_over(memory):
    """Anyone may make something of such a name in a folder that all share."""
    stranger = os.path.join(
        os.path.dirname(sessions.current().info.folder), f"cloudpool-stranger-{os.getpid()}"
    )
    with open(stranger, "x"):
        pass
    try:
        with pytest.raises(FileNotFoundError):
            SharedMemory("of-nobody")
    finally:
        os.unlink(stranger)


def test_another_program_attaches_by_name(memory):
    memory.buf[:3] = b"abc"
    attach = """
        import sys
        from cloudpool.shared_memory import SharedMemory
        memory = SharedMemory(sys.argv[1])
        print(bytes(memory.buf[:3]).decode())
        memory.buf[0] = 65
        memory.close()
    """
    assert program(attach, memory.name) == "abc\n"
    assert memory.buf[0] == 65  # and it has not taken it away


def test_programs_end_takes_away_what_nobody_unlinked_and_a_late_unlink_is_silent():
    make = """
        import os
        from cloudpool.shared_memory import SharedMemory

        class Owner:
            def __init__(self):
                self.memory = SharedMemory(create=True, size=10)

            def __del__(self):
                self.memory.close()
                self.memory.unlink()

        owner, left = Owner(), SharedMemory(create=True, size=10)
        print(os.path.dirname(left._path))
    """
    assert not os.path.exists(program(make).strip())


def _change(items):
    items[0], items[3] = 42, "longer"


def test_list_is_changed_by_a_process(ctx):
    items = ShareableList([1, 2.5, b"bytes", "a string", None, True])
    try:
        process = ctx.Process(target=_change, args=(items,))
        process.start()
        process.join()
        assert list(items) == [42, 2.5, b"bytes", "longer", None, True]
        assert isinstance(items, stdlib.ShareableList)
        assert (
            list(ShareableList(name=items.shm.name)) == list(pickle.loads(pickle.dumps(items))) == list(items)
        )
        with pytest.raises(ValueError, match="exceeds available storage"):
            items[3] = "x" * 100
        with pytest.raises(IndexError):
            items[6]
    finally:
        items.shm.unlink()


def test_managers_shutdown_unlinks_what_it_made(ctx):
    before = registered()
    with SharedMemoryManager(ctx=ctx) as manager:
        memory, items = manager.SharedMemory(size=10), manager.ShareableList([1, 2])
        _write(memory.name, b"x")
        assert memory.buf[0] == ord("x")
        assert list(ShareableList(name=items.shm.name)) == [1, 2]
    assert registered() == before
    for name in (memory.name, items.shm.name):
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)
