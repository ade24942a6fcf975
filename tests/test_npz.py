"""Files of arrays that are damaged or crafted: one reason each, and no memory for them."""

from __future__ import annotations

import io
import struct
import zipfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from common import npz
from common.npz import read_npz

ARRAYS = {
    "a/b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flag": np.array([True, False]),
    "image": np.zeros((2, 4, 4, 3), np.uint8),
    "one": np.array(3),
    "none": np.zeros((0, 5)),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def header(text, version=1):
    """An array that says of itself whatever is wanted, and two numbers."""
    words = text.encode("latin1")
    size = struct.pack("<H" if version == 1 else "<I", len(words))
    return b"\x93NUMPY" + bytes([version, 0]) + size + words + b"12345678"


def described(shape="(2,)", descr="'<f4'", order="False"):
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}")


def archive(*members, method=zipfile.ZIP_STORED):
    """A file of these ``(name, bytes)``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return stream.getvalue()


def saved(save=np.savez, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def patched(content, local, central, value):
    """The archive with a 16-bit field of every local and central header replaced."""
    content = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        place = content.find(mark)
        while place >= 0:
            content[place + offset : place + offset + 2] = struct.pack("<H", value)
            place = content.find(mark, place + 1)
    return bytes(content)


ONE = saved(x=np.ones(3))
CRAFTED = {
    "more than there is": (archive(("x.npy", described("(1000000000000,)"))), "declares 4,000,0"),
    "less than there is": (archive(("x.npy", described("(1,)"))), "declares 4 bytes"),
    "negative": (archive(("x.npy", described("(-1,)"))), "shape"),
    "overflow": (archive(("x.npy", described("(2**70, 0)"))), ""),
    "nested": (archive(("x.npy", described("(" * 5000 + ")" * 5000))), ""),
    "call": (archive(("x.npy", described("__import__('os')"))), ""),
    "fields": (archive(("x.npy", described(descr="[('a', '<f4')]"))), "not numbers"),
    "objects": (saved(x=np.array([None, {}], object)), "not numbers"),
    "text": (saved(x=np.array(["a"])), "not numbers"),
    "version 3": (archive(("x.npy", header("{}", 3))), "version (3, 0)"),
    "no header": (archive(("x.npy", b"hello")), "magic"),
    "no array": (archive(("x.txt", b"hello")), "'x.txt' is no array"),
    "pickle": (archive(("x.npy", b"\x80\x04N.")), "magic"),
    "encrypted": (patched(ONE, 6, 8, 1), "encrypted"),
    "lzma": (archive(("x.npy", described()), method=zipfile.ZIP_LZMA), "in a way that NumPy"),
    "unknown method": (patched(ONE, 8, 10, 97), "in a way that NumPy"),
    "cut": (ONE[:-30], ""),
    "empty": (b"", ""),
    "other": (b"PK\x03\x04" + b"0" * 100, ""),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_what_cannot_be_read_has_a_reason_in_one_line(name, tmp_path):
    content, words = CRAFTED[name]
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_npz(tmp_path / "x.npz")
    assert words in str(caught.value)
    assert str(caught.value).strip() and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_are_unique(tmp_path):
    (tmp_path / "x.npz").write_bytes(archive(("x.npy", described()), ("x.npy", described())))
    with pytest.raises(ValueError, match="two arrays have the same name"):
        read_npz(tmp_path / "x.npz")


def test_members_may_not_share_their_bytes(tmp_path):
    content = bytearray(archive(*((f"{n}.npy", described()) for n in range(9))))
    place = content.find(b"PK\x01\x02")
    while place >= 0:  # All of them point at the first.
        content[place + 42 : place + 46] = bytes(4)
        place = content.find(b"PK\x01\x02", place + 1)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError):
        read_npz(tmp_path / "x.npz")


def test_a_file_does_not_swell_without_bound(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(saved(np.savez_compressed, x=np.zeros(100_000)))
    assert read_npz(tmp_path / "x.npz")["x"].shape == (100_000,)
    monkeypatch.setattr(npz, "SMALL", 1000)
    with pytest.raises(ValueError, match="bytes would become 800,.*without compression"):
        read_npz(tmp_path / "x.npz")


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_npz(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="Is a directory"):
        read_npz(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_was_written_is_read(save, tmp_path):
    (tmp_path / "x.npz").write_bytes(saved(save, **ARRAYS))
    found = read_npz(str(tmp_path / "x.npz"))
    assert list(found) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)


WHOLE = saved(**ARRAYS)


@hypothesis.given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.integers(0, len(WHOLE)),
)
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_damage_is_a_reason_or_arrays(tmp_path_factory, changes, end):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    path.write_bytes(content[:end] if end % 5 == 0 else content)
    try:
        found = read_npz(path)
    except ValueError as error:
        assert type(error) is ValueError and "\n" not in str(error)
    else:
        assert all(array.dtype.kind in "biuf" for array in found.values())


def test_no_member_hides_behind_another(tmp_path):
    """An entry of the list whose length swallows the next one: ``zipfile`` then reads one less."""
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), b=np.arange(4))
    content = bytearray(path.read_bytes())
    first, second = (content.find(b"PK\1\2"), content.rfind(b"PK\1\2"))
    end = content.rfind(b"PK\5\6")
    # The length of the comment of the first entry, at byte 32 of it.
    content[first + 32 : first + 34] = struct.pack("<H", end - second)
    path.write_bytes(content)
    assert len(zipfile.ZipFile(path).infolist()) == 1
    with pytest.raises(ValueError, match="it lists 1 arrays and counts 2"):
        read_npz(path)
