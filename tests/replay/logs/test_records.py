"""TFRecord files and Examples: against what TensorFlow wrote, and against damage."""

from __future__ import annotations

import pathlib
import struct

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from common.replay.logs.records import masked_crc, read_example, read_records
from tests.replay.logs.made import STEPS, arm

RECORDED = pathlib.Path(__file__).resolve().parents[2] / "recorded" / "logs"
FILE = RECORDED / "raw_arm" / "episodes.tfrecord-00000-of-00002"


def slow_crc(data):
    """The register, bit by bit."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    register ^= 0xFFFFFFFF
    return ((register >> 15 | register << 17) + 0xA282EAD8) % 2**32


def varint(value):
    """A number of 64 bits as protocol buffers have it."""
    value, found = value % 2**64, b""
    while value > 127:
        value, found = value >> 7, found + bytes([value & 127 | 128])
    return found + bytes([value])


def field(number, data):
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def example(**features):
    """An Example with features that are written already."""
    entries = [field(1, field(1, key.encode()) + field(2, x)) for key, x in features.items()]
    return field(1, b"".join(entries))


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.binary(max_size=1500))
def test_checksums(data):
    assert masked_crc(data) == slow_crc(data)


def test_a_published_checksum():
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32


def test_what_tensorflow_wrote():
    (record,) = read_records(FILE)
    found, (observations, actions, rewards) = read_example(record), arm(0)
    assert set(found) == {
        "observation:height", "observation:joints", "action", "reward", "discount",
    }  # fmt: skip
    np.testing.assert_array_equal(found["observation:joints"], observations["joints"].ravel())
    np.testing.assert_array_equal(found["action"][2:], actions.ravel())
    np.testing.assert_array_equal(found["reward"][1:], rewards)
    assert found["reward"].dtype == np.float32 and len(found["discount"]) == STEPS[0] + 1


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6))
def test_integers_packed_or_not(numbers):
    packed = field(3, field(1, b"".join(map(varint, numbers))))
    plain = field(3, b"".join(varint(1 << 3) + varint(value) for value in numbers))
    found = read_example(example(packed=packed, plain=plain))
    assert found["packed"].tolist() == found["plain"].tolist() == numbers


def test_floats_packed_or_not_and_what_is_empty():
    numbers = np.float32([1.5, -2, np.pi])
    plain = b"".join(varint(1 << 3 | 5) + one.tobytes() for one in numbers)
    found = read_example(
        example(packed=field(2, field(1, numbers.tobytes())), plain=field(2, plain), none=b"")
    )
    np.testing.assert_array_equal(found["packed"], numbers)
    np.testing.assert_array_equal(found["plain"], numbers)
    assert found["none"].size == 0
    assert read_example(example(a=field(1, field(1, b"x") + field(1, b"")))) == {"a": [b"x", b""]}


@pytest.mark.parametrize("at", [0, 8, 12, 200, -1])
def test_one_wrong_bit_is_noticed(at, tmp_path):
    data = bytearray(FILE.read_bytes())
    data[at] ^= 4
    (path := tmp_path / "x.tfrecord").write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged|no TFRecord"):
        list(read_records(path))


@pytest.mark.parametrize("length", [1, 12, 100, -1])
def test_a_file_that_was_cut_is_noticed(length, tmp_path):
    (path := tmp_path / "x.tfrecord").write_bytes(FILE.read_bytes()[:length])
    with pytest.raises(ValueError, match="ends within the record that begins at byte 0"):
        list(read_records(path))


def test_a_length_beyond_the_file_takes_no_memory(tmp_path):
    head = struct.pack("<Q", 2**60)
    path = tmp_path / "x.tfrecord"
    path.write_bytes(head + struct.pack("<I", masked_crc(head)) + b"abcd")
    with pytest.raises(ValueError, match="ends within"):
        list(read_records(path))


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(st.binary(max_size=60), st.integers(0, 59))
def test_nonsense_is_a_value_error_or_an_example(data, at):
    good = bytearray(
        example(a=field(2, field(1, b"\0" * 8)), b=field(3, field(1, b"\x01\x80\x01")))
    )
    good[at % len(good) :] = data
    for nonsense in (data, bytes(good)):
        try:
            assert isinstance(read_example(nonsense), dict)
        except ValueError:
            pass
