"""Files that were changed at random: what is read is what was written, or is refused."""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.export import export, read_export
from common.logging import JsonlSink, read_jsonl
from common.replay.chunks import read_chunk, write_chunk
from common.run import checkpoint
from tests.fake_agent import Config
from tests.tiny import VECTOR, box

AMOUNTS = [30, pytest.param(1000, marks=pytest.mark.slow)]
KINDS = ("flip", "byte", "zeros", "ones", "cut", "drop", "twice", "insert")
PLACES = st.floats(0, 1, exclude_max=True)
CHANGES = st.lists(
    st.tuples(st.sampled_from(KINDS), PLACES, st.integers(1, 64), st.integers(0, 255)),
    min_size=1,
    max_size=3,
)


def changed(content: bytes, changes) -> bytes:
    """A file's content after some changes, each at a place between its begin (0) and end (1)."""
    for kind, place, length, number in changes:
        at = int(place * len(content))
        part = content[at : at + length]
        new = {
            "flip": bytes([part[0] ^ 1 << number % 8]) + part[1:] if part else b"",
            "byte": bytes([number]) + part[1:],
            "zeros": bytes(len(part)),
            "ones": b"\xff" * len(part),
            "cut": None,
            "drop": b"",
            "twice": part + part,
            "insert": bytes([number] * length) + part,
        }[kind]
        content = content[:at] if new is None else content[:at] + new + content[at + length :]
    return content


def property_test(amount, *strategies):
    """Runs a function on so many examples, and says no more of warnings than it asks for."""
    options = {"max_examples": amount, "deadline": None, "database": None}
    options["suppress_health_check"] = list(HealthCheck)

    def run(function):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings(**options)(given(*strategies)(function))()

    return run


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value.dtype == right[key].dtype
        np.testing.assert_array_equal(value, right[key])


@pytest.mark.parametrize("amount", AMOUNTS)
def test_checkpoints(amount, tmp_path):
    """Arrays and metadata; the one before is used where the newest is not what was written."""
    trees = {n: {"w": np.arange(50.0) * n, "n": n} for n in (1, 2)}
    for step, tree in trees.items():
        checkpoint.save(tmp_path / "whole", step, tree, {"frames": step, "rows": [step]}, keep=2)
    files = [p for p in (tmp_path / "whole" / f"{2:012d}").rglob("*") if p.is_file()]
    refused = []

    @property_test(amount, st.sampled_from(files), CHANGES)
    def _(path, changes):
        content = path.read_bytes()
        path.write_bytes(changed(content, changes))
        try:
            tree, metadata = checkpoint.restore(tmp_path / "whole", trees[1])
            assert metadata == {"frames": tree["n"], "rows": [tree["n"]]}
            np.testing.assert_array_equal(tree["w"], trees[tree["n"]]["w"])
            assert checkpoint.metadata(tmp_path / "whole")["frames"] in (tree["n"], 2)
            refused.append(tree["n"] == 1)
        finally:
            path.write_bytes(content)

    assert sum(refused) > 0.8 * len(refused)  # Few changes are of no consequence.


@pytest.mark.parametrize("amount", AMOUNTS)
def test_exports(amount, tmp_path):
    path, params = tmp_path / "export.npz", {"a": {"w": np.arange(30.0)}, "b": np.float32(3)}
    export(path, "fake", Config(), VECTOR, box(2), params)
    content, whole = path.read_bytes(), read_export(path)

    @property_test(amount, CHANGES)
    def _(changes):
        path.write_bytes(changed(content, changes))
        try:
            found = read_export(path)
        except UserError as error:
            assert "\n" not in str(error)
            return
        assert found[:4] == whole[:4]
        assert_same(found.params["a"], params["a"])
        assert found.params["b"] == 3


@pytest.mark.parametrize("amount", AMOUNTS)
def test_chunks_of_the_replay(amount, tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    rows = {"x": rng.normal(size=(9, 3)).astype(np.float32), "is_first": np.arange(9) == 0}
    write_chunk(path, rows)
    content = path.read_bytes()

    @property_test(amount, CHANGES)
    def _(changes):
        path.write_bytes(changed(content, changes))
        found = read_chunk(path)
        assert found is None or assert_same(found, rows) is None


@pytest.mark.parametrize("amount", AMOUNTS)
def test_logs(amount):
    """Lines that were not changed are all read, and a run goes on; there is nothing to refuse."""
    lines = [json.dumps({"frames": n, "x": n / 3, "nan": None}).encode() for n in range(40)]

    @property_test(amount, CHANGES)
    def _(changes):
        folder = pathlib.Path(tempfile.mkdtemp())
        try:
            path = folder / "metrics.jsonl"
            content = changed(b"\n".join([*lines, b""]), changes)
            path.write_bytes(content)
            there = [json.loads(line)["frames"] for line in content.split(b"\n") if line in lines]
            found = [record["frames"] for record in read_jsonl(path)]
            assert not set(there) - set(found)
            assert all(isinstance(one, (int, float)) for one in found)
            sink = JsonlSink(path)
            sink.rewind(20)
            sink.scalars(21, {"x": 0})
            sink.close()
            found = [record["frames"] for record in read_jsonl(path)]
            assert max(found[:-1], default=0) <= 20 and found[-1] == 21
            assert not {one for one in there if one <= 20} - set(found)
        finally:
            shutil.rmtree(folder)
