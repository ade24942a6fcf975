"""Files of arrays that anybody may have written: read without trusting what they declare.

A ``.npz`` file is a ZIP archive of NumPy arrays. Nothing in it is executed, and no more memory
is taken than its arrays need: sizes that a header declares are held against what is there.
"""

from __future__ import annotations

import math
import os
import pathlib
import struct
import zipfile
import zlib
from typing import IO, Any

import numpy as np

EXPANSION = 100
"""How many times its own size a compressed file above ``SMALL`` bytes may fill memory."""
SMALL = 2**30

_KINDS = "biuf"
_END = struct.Struct("<4s4H2LH")
"""The end of a ZIP file, before its comment; the fifth number is that of its members."""
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file: booleans, integers and floating-point numbers.

    Raises:
        ValueError: One line on why the file cannot be read: it is missing, damaged, encrypted
            or compressed in another way than NumPy does it, holds Python objects or text,
            or declares more than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_amount(archive, path)
            _check_members(members, pathlib.Path(path).stat().st_size)
            return {one.filename.removesuffix(".npy"): _array(archive, one) for one in members}
    except _DAMAGE as error:
        words = error.strerror if isinstance(error, OSError) else None
        words = " ".join((words or str(error) or type(error).__name__).split())
        raise ValueError(words[:200]) from error


def _check_amount(archive: zipfile.ZipFile, path: str | pathlib.Path) -> None:
    """Holds the list of members against their number, which ``zipfile`` does not look at.

    One wrong byte in the list can hide a member behind the one before it.
    """
    with open(path, "rb") as file:
        file.seek(-(_END.size + len(archive.comment)), os.SEEK_END)
        amount = _END.unpack(file.read(_END.size))[4]
    # The largest number stands for that one and all above.
    if len(archive.infolist()) != amount and amount != 0xFFFF:
        raise ValueError(f"it lists {len(archive.infolist())} arrays and counts {amount}")


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two arrays have the same name")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise ValueError(f"{member.filename!r} is no array")
        if member.flag_bits & _ENCRYPTED:
            raise ValueError(f"{member.filename!r} is encrypted")
        if member.compress_type not in _METHODS:
            raise ValueError(f"{member.filename!r} is compressed in a way that NumPy does not use")
    full = sum(member.file_size for member in members)
    if sum(member.compress_size for member in members) > size:
        raise ValueError("it declares more than it holds")
    if full > max(SMALL, EXPANSION * size):
        raise ValueError(f"{size:,} bytes would become {full:,}; save it without compression")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        shape, dtype = _header(file, member.filename)
        declared, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if declared != there:
            raise ValueError(
                f"{member.filename!r} declares {declared:,} bytes of numbers and holds {there:,}"
            )
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], Any]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name!r} is of version {version} of NumPy's format")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in _KINDS:
        raise ValueError(f"{name!r} holds {dtype}, not numbers")
    if min(shape, default=0) < 0:
        raise ValueError(f"{name!r} has the shape {shape}")
    return shape, dtype
