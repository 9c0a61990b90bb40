"""Objects in memory."""

import pytest

from cloudpool.chunking.stores import memory


class Objects:
    """objects(name, data): an object in memory; its URL."""

    def __call__(self, name, data):
        memory.OBJECTS[name] = data
        return f"memory://{name}"

    def __repr__(self):
        return "objects"  # a failing example is told in full


@pytest.fixture(scope="session")
def store():
    return Objects()


@pytest.fixture
def fetched(monkeypatch):
    """The bytes of each request, in order."""
    counts = []
    read_into = memory.MemoryStore.read_into

    def counting(self, entry, start, view):
        got = read_into(self, entry, start, view)
        counts.append(got)
        return got

    monkeypatch.setattr(memory.MemoryStore, "read_into", counting)
    return counts
