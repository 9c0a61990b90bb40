"""`multiprocessing.shared_memory`."""

import sys
from typing import TYPE_CHECKING

from cloudpool.sync import shared_memory

if TYPE_CHECKING:  # ours have the stdlib's signatures
    from multiprocessing.shared_memory import ShareableList, SharedMemory
else:
    from cloudpool.sync.shared_memory import ShareableList, SharedMemory

__all__ = ["ShareableList", "SharedMemory"]

# The module that is at work: programs' tests patch its _make_filename.
sys.modules[__name__] = shared_memory
