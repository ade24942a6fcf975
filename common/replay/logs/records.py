"""TFRecord files and the ``tf.train.Example`` in each record, read without TensorFlow.

A record is its length (8 bytes), a checksum of the length, its bytes, and a checksum of these; all
little-endian, and both checksums are masked CRC-32C. An Example is a protocol buffer:

    Example  {Features features = 1}
    Features {map<string, Feature> feature = 1}
    Feature  {BytesList = 1 | FloatList = 2 | Int64List = 3}, each {repeated value = 1}

where numbers may be packed or not. https://www.tensorflow.org/tutorials/load_data/tfrecord and
https://protobuf.dev/programming-guides/encoding describe both.
"""

from __future__ import annotations

import functools
import pathlib
import struct
from collections.abc import Iterator

import numpy as np

Example = dict[str, "np.ndarray | list[bytes]"]
"""Float32 or int64 arrays, or byte strings, by the names of features."""

_STRIP = 512
_FULL = bytes.fromhex("54641f64")
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3


def read_records(path: pathlib.Path) -> Iterator[bytes]:
    """Reads the records of a file one after the other.

    Raises:
        ValueError: The file is no TFRecord file, or is damaged; says where.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        while file.tell() < size:
            begin = file.tell()
            head, length = file.read(12), 0
            if len(head) == 12:
                length, sum_of_length = struct.unpack("<QI", head)
                if masked_crc(head[:8]) != sum_of_length:
                    raise ValueError(f"it is no TFRecord file, or damaged, at byte {begin:,}")
            if size - begin < length + 16:
                raise ValueError(f"it ends within the record that begins at byte {begin:,}")
            data = file.read(length)
            if masked_crc(data) != struct.unpack("<I", file.read(4))[0]:
                raise ValueError(f"the record at byte {begin:,} is damaged")
            yield data


def read_example(data: bytes) -> Example:
    """Reads one Example.

    Raises:
        ValueError: It is none, or damaged.
    """
    found: Example = {}
    for _, _, features in _fields(memoryview(data), only=1):
        for _, _, entry in _fields(features, only=1):
            pair = {number: value for number, _, value in _fields(entry)}
            if 1 in pair:
                found[str(pair[1], "utf-8")] = _values(pair.get(2, memoryview(b"")))
    return found


def masked_crc(data: bytes) -> int:
    """Returns the masked CRC-32C of bytes, as TFRecord files have it.

    The register runs over strips of the bytes side by side, so that NumPy does the work. Running
    on over a strip of zeros is linear, which joins them: crc(x y) = run(crc(x)) XOR crc(y).
    """
    # The register begins full: the same as empty before the four bytes that fill it.
    raw = np.frombuffer(_FULL + data, np.uint8)
    strips = np.zeros(-(-len(raw) // _STRIP) * _STRIP, np.uint8)
    strips[len(strips) - len(raw) :] = raw  # Zeros in front leave an empty register empty.
    registers = np.zeros(len(strips) // _STRIP, np.uint32)
    for column in strips.reshape(-1, _STRIP).T:
        registers = _step(registers, column)
    total, (one, two, three, four) = 0, _run_over_a_strip()
    for register in registers.tolist():
        moved = one[total & 255] ^ two[total >> 8 & 255] ^ three[total >> 16 & 255]
        total = moved ^ four[total >> 24] ^ register
    total ^= 0xFFFFFFFF
    return ((total >> 15 | total << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _step(registers: np.ndarray, column: np.ndarray | int) -> np.ndarray:
    return _table()[(registers ^ column) & 255] ^ (registers >> 8)


@functools.cache
def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


@functools.cache
def _run_over_a_strip() -> list[list[int]]:
    """What becomes of each of a register's four bytes when a strip of zeros has passed."""
    registers = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32))[:, None]
    for _ in range(_STRIP):
        registers = _step(registers, 0)
    return registers.tolist()


def _fields(data: memoryview, only: int = 0) -> Iterator[tuple[int, int, memoryview]]:
    """Yields number, kind and bytes of the fields of a message, all or those of one number."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _LENGTH:
            size, at = _varint(data, at)
        elif kind == _VARINT:
            size = _varint(data, at)[1] - at
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"a field is of kind {kind}, which no Example has")
        if at + size > len(data):
            raise ValueError("a field is longer than what holds it")
        if number == only or not only:
            yield number, kind, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number has no end")


def _values(feature: memoryview) -> np.ndarray | list[bytes]:
    """The values of a feature; an empty one has no kind, and counts as numbers."""
    for number, _, values in _fields(feature):
        pieces = [piece for _, _, piece in _fields(values, only=1)]
        if number == _BYTES:
            return [bytes(piece) for piece in pieces]
        joined = b"".join(pieces)
        if number == _FLOATS:
            return np.frombuffer(joined, "<f4").astype(np.float32)
        if number == _INTEGERS:
            return _integers(joined)
    return np.zeros(0, np.float32)


def _integers(data: bytes) -> np.ndarray:
    """Numbers of 64 bits, seven in each byte, of which the last one is below 128."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if not len(ends) or ends[-1] != len(raw) - 1:
        if len(raw):
            raise ValueError("a number has no end")
        return np.zeros(0, np.int64)
    begins = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(raw)) - np.repeat(begins, ends - begins + 1)
    if place.max() > 9:
        raise ValueError("a number is longer than 64 bits")
    parts = (raw & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, begins).view(np.int64)
