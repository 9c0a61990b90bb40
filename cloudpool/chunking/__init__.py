"""Data into partitions: pieces of the right size for one task each. Knows no Redis and no runner, takes any pool."""

from cloudpool.chunking.formats import Format
from cloudpool.chunking.formats.delimited import delimited
from cloudpool.chunking.partition import partition
from cloudpool.chunking.parts import Partitions
from cloudpool.chunking.piece import Partition
from cloudpool.chunking.reduce import map_reduce

__all__ = ["Format", "Partition", "Partitions", "delimited", "map_reduce", "partition"]
