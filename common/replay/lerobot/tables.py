"""Parquet files, whose columns become arrays: read without trusting what they declare."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import UserError
from common.npz import EXPANSION, SMALL

if TYPE_CHECKING:
    import pyarrow


def library() -> Any:
    """Returns pyarrow with its Parquet module.

    Raises:
        UserError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"pyarrow is not installed here ({error}); run pip install pyarrow"
        ) from error
    return pyarrow


def read_table(path: pathlib.Path, columns: Sequence[str]) -> pyarrow.Table:
    """Reads some columns of a Parquet file.

    Raises:
        UserError: It is none, is damaged, lacks a column, or would fill the memory.
    """
    arrow = library()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if missing := [name for name in columns if name not in there]:
                raise UserError(f"{path} has no column {missing[0]!r}, but {', '.join(there)}")
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            if size > max(SMALL, EXPANSION * path.stat().st_size):
                raise UserError(f"{path} would become {size:,} bytes; store it plainly")
            return file.read(columns=list(columns))
    except (OSError, arrow.ArrowException) as error:
        words = " ".join(str(error).split())
        raise UserError(f"cannot read {path}: {words}") from error


def numbers(table: pyarrow.Table, name: str, size: int) -> np.ndarray:
    """Returns a column as an array ``[rows, size]`` of numbers or booleans.

    Raises:
        ValueError: It holds something else, or not as many of them.
    """
    types = library().types
    found = table.column(name).combine_chunks()
    while True:
        kind = found.type
        if isinstance(kind, library().BaseExtensionType):
            found = found.storage
        elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            found = found.flatten()
        else:
            break
    if found.null_count:
        raise ValueError(f"{name!r} is missing in some frames")
    values = found.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name!r} holds {found.type}, expected numbers")
    if values.size != table.num_rows * size:
        raise ValueError(f"{name!r} has {values.size} numbers in {table.num_rows} frames of {size}")
    return values.reshape(table.num_rows, size)
