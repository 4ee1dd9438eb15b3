"""Captions in a Parquet table, with the columns of a CSV table; read in parts by pyarrow, which is optional."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.document import Document, check_regular
from vidiff_cli.preparation.captions.table import read_records
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow
from vidiff_cli.system.shortage import raise_shortage

MAGIC = "PAR1"
ROWS_AT_ONCE = 1000
MOST_COLUMNS = 10_000


def read_parquet(document: Document) -> Iterator[Annotation | InvalidRow]:
    """Entries of a Parquet table; a list holds several captions. VidiffError: as `read_csv`, or without pyarrow."""
    if document.member:
        raise VidiffError(f"{document} cannot be read", found="a Parquet table in an archive", fix="unpack it")
    return read_records(document, enumerate(parquet_rows(document.path), start=1))


def parquet_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, by the names of its columns that hold text, numbers or lists of text.

    Args:
        path: The file.
        columns: The columns to read; None for all of these kinds.

    Yields:
        A row.

    Raises:
        VidiffError: pyarrow is not installed, or the file cannot be read.
    """
    try:
        import pyarrow
        import pyarrow.parquet
        import pyarrow.types as kinds
    except ImportError as error:
        raise VidiffError(f"{path} needs pyarrow", found="no such package", fix="pip install pyarrow") from error

    def is_plain(kind: Any) -> bool:
        is_text = kinds.is_string(kind) or kinds.is_large_string(kind)
        return is_text or kinds.is_integer(kind) or kinds.is_floating(kind)

    def is_read(kind: Any) -> bool:
        is_list = kinds.is_list(kind) or kinds.is_large_list(kind)
        return is_plain(kind.value_type if is_list else kind)

    check_regular(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if len(schema) > MOST_COLUMNS:
                raise VidiffError(f"{path} has {len(schema)} columns", expected=f"at most {MOST_COLUMNS}")
            wanted = [each.name for each in schema if is_read(each.type) and (columns is None or each.name in columns)]
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise_shortage(path, error)
        found = " ".join(str(error).split())[:120]
        raise VidiffError(f"{path} is not a Parquet file that can be read", found=found) from error
