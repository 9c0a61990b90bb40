"""Files over an object's bytes keep to what Python says of files."""

import os

import pytest
from needed import needed

from cloudpool.chunking import partition
from cloudpool.chunking.stores import memory
from cloudpool.errors import ObjectChangedError


def test_a_file_that_seeks_gives_all_that_is_asked_for(store):
    data = os.urandom(1 << 20)
    (part,) = partition(store("data.bin", data))
    file = part.raw_object()
    assert [len(file.read(n)) for n in (100_000, 1000, 400_000)] == [100_000, 1000, 400_000]
    file.seek(0)
    assert b"".join(file.read(n) for n in (100_000, 1000, 400_000, 1 << 20)) == data
    assert file.read(1) == b""


def test_parquet_whose_columns_are_of_unlike_sizes_is_read(store):
    pa = needed("pyarrow")
    pq = needed("pyarrow.parquet")
    rows = 100_000
    table = pa.table(
        {
            name: pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(width), rows, [None, pa.py_buffer(os.urandom(rows * width))]
            )
            for name, width in {"a": 31, "b": 2, "c": 31}.items()
        }
    )
    data = pa.BufferOutputStream()
    pq.write_table(table, data, compression="none", use_dictionary=False, row_group_size=rows)
    (part,) = partition(store("wide.parquet", data.getvalue().to_pybytes()))
    assert part.table().equals(table)
    assert pa.Table.from_batches(part, table.schema).equals(table)


def test_a_file_that_failed_fails_again_until_it_is_rewound(store):
    data = b"x\n" * 2_000_000
    (part,) = partition(store("changing.txt", data))
    file = part.open()
    file.read(10)
    memory.OBJECTS["changing.txt"] = b"y\n" * 2_000_000
    for read in (file.read, file.readline, file.read, lambda: file.read(5_000_000)):
        with pytest.raises(ObjectChangedError):
            while read():
                pass
    memory.OBJECTS["changing.txt"] = data
    file.seek(0)
    assert file.read() == data
