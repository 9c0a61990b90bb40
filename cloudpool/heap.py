"""`multiprocessing.heap`, as far as programs use it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ours has the stdlib's signatures
    from multiprocessing.heap import BufferWrapper
else:
    from cloudpool.sync.block import Block as BufferWrapper

__all__ = ["BufferWrapper"]
