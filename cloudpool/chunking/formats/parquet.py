"""Parquet: record batches of the row groups that begin in the piece. Each reader takes them from the footer itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cloudpool.chunking.formats import Format
from cloudpool.errors import FormatError, MissingExtraError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition


class Parquet(Format):
    """`columns` leaves out all others."""

    joins = False
    compressible = False

    def __init__(self, columns: list[str] | None = None) -> None:
        self.columns = columns

    def read(self, part: Partition) -> Iterator[Any]:
        """pyarrow.RecordBatches."""
        with _opened(part) as (file, groups):
            if groups:
                yield from file.iter_batches(row_groups=groups, columns=self.columns)

    def table(self, part: Partition) -> Any:
        with _opened(part) as (file, groups):
            return file.read_row_groups(groups, columns=self.columns)

    def open(self, part: Partition) -> io.BufferedReader:
        """The object, if it is whole; else a Parquet file of these row groups, made in memory."""
        if part.whole:
            return part.open_object()
        table = self.table(part)
        import pyarrow.parquet as pq

        data = io.BytesIO()
        pq.write_table(table, data)
        data.seek(0)
        return io.BufferedReader(data)


@contextmanager
def _opened(part: Partition) -> Iterator[tuple[Any, list[int]]]:
    """The file, and the numbers of the piece's row groups."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("parquet", "Reading Parquet") from None
    try:
        file = pq.ParquetFile(pa.PythonFile(part.raw_object(), mode="r"), pre_buffer=True)
        groups = [
            n
            for n in range(file.num_row_groups)
            if part.start <= _begin(file.metadata.row_group(n)) < part.stop
        ]
        yield file, groups
    except (pa.ArrowException, OSError) as error:
        # What pyarrow says of data is an OSError without a number; a store's errors, which come through it, are of a kind or have one.
        of_store = isinstance(error, OSError) and (type(error) is not OSError or error.errno)
        if of_store or isinstance(error, pa.ArrowMemoryError | pa.ArrowCancelled):
            raise
        raise FormatError(
            f"{part.where} cannot be read as Parquet: {(str(error) or repr(error)).splitlines()[0]}; write the object "
            f"again, or say what it is by format="
        ) from error


def _begin(group: Any) -> int:
    """Where a row group's first page is."""
    begins = [4]
    for n in range(group.num_columns):
        column = group.column(n)
        pages = [page for page in (column.dictionary_page_offset, column.data_page_offset) if page]
        begins += [min(pages)] if pages else []
    return min(begins[1:], default=4)
