"""Checkpoints: what comes back, what is noticed, what remains after a failure."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.run import checkpoint


class State(NamedTuple):
    params: dict[str, Any]
    key: Any
    keys: Any
    count: Any
    updates: int
    ratio: float
    done: bool
    scalar: Any
    table: Any
    nothing: None = None


def make_state(seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "net/~/linear": {"w": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)},
        "half": jnp.asarray(rng.normal(size=3), jnp.bfloat16),
        "empty": jnp.zeros((0, 3)),
    }
    return State(
        params,
        jax.random.key(seed),
        jax.random.split(jax.random.key(seed), 2),
        jnp.int32(seed),
        seed + 2**40,
        0.1 + seed,
        bool(seed % 2),
        np.float32(seed + 0.5),
        rng.normal(size=5),
    )


def assert_equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert type(a) is type(b)
        if hasattr(a, "dtype"):
            assert a.dtype == b.dtype and a.shape == b.shape
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def names(directory):
    """What lies in a folder."""
    return sorted(path.name for path in pathlib.Path(directory).iterdir())


def contents(directory):
    return {
        path: path.read_bytes() for path in pathlib.Path(directory).rglob("*") if path.is_file()
    }


def test_everything_returns_as_it_was(tmp_path):
    metadata = {"frames": 12, "replay": {"rng": 2**127, "rows": [1, 2]}, "name": "ö"}
    checkpoint.save(tmp_path, 7, make_state(3), metadata, keep=1)
    state, found = checkpoint.restore(tmp_path, make_state(0))
    assert_equal(state, make_state(3))
    assert found == metadata
    draw = jax.random.normal(state.key, (3,))
    np.testing.assert_array_equal(draw, jax.random.normal(jax.random.key(3), (3,)))


def test_shapes_suffice_to_restore(tmp_path):
    checkpoint.save(tmp_path, 1, make_state(3).params, {}, keep=1)
    shapes = jax.eval_shape(lambda: make_state().params)
    assert_equal(checkpoint.restore(tmp_path, shapes)[0], make_state(3).params)


def test_another_generator_of_keys(tmp_path):
    key = jax.random.key(1, impl="rbg")
    checkpoint.save(tmp_path, 1, {"key": key}, {}, keep=1)
    assert_equal(
        checkpoint.restore(tmp_path, {"key": jax.random.key(0, impl="rbg")})[0], {"key": key}
    )
    with pytest.raises(UserError, match="'key'"):
        checkpoint.restore(tmp_path, {"key": jax.random.key(0)})


def test_newest_are_kept_and_any_can_be_restored(tmp_path):
    assert checkpoint.latest(tmp_path / "none") is None
    assert checkpoint.steps(tmp_path / "none") == []
    for step in (5, 100, 20):
        checkpoint.save(tmp_path, step, {"x": jnp.float32(step)}, {"step": step}, keep=2)
    assert checkpoint.latest(tmp_path) == 100 and checkpoint.steps(tmp_path) == [20, 100]
    assert checkpoint.restore(tmp_path, {"x": jnp.float32(0)}, step=20)[0]["x"] == 20
    with pytest.raises(UserError, match="no checkpoint 5 .* there are 20, 100"):
        checkpoint.restore(tmp_path, {"x": jnp.float32(0)}, step=5)


def test_the_same_step_is_replaced(tmp_path):
    for value in (1, 2):
        checkpoint.save(tmp_path, 3, {"x": value}, {"value": value}, keep=1)
    assert checkpoint.restore(tmp_path, {"x": 0}) == ({"x": 2}, {"value": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["000000000003"]


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoint.restore(tmp_path, {"x": 0})


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"a": jnp.zeros((2, 4)), "b": 0},
            r"holds \['a'\] as float32\[2, 3\].*has float32\[2, 4\]",
        ),
        ({"a": jnp.zeros((2, 3), jnp.bfloat16), "b": 0}, "has bfloat16"),
        ({"a": jnp.zeros((2, 3)), "b": 0, "c": 0}, r"has no \['c'\]"),
        ({"a": jnp.zeros((2, 3))}, r"has \['b'\], which is not expected"),
    ],
)
def test_another_structure_is_refused(tmp_path, like, message):
    checkpoint.save(tmp_path, 1, {"a": jnp.zeros((2, 3)), "b": 0}, {}, keep=1)
    with pytest.raises(UserError, match=message) as error:
        checkpoint.restore(tmp_path, like)
    assert "another logdir" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "missing", "flipped"])
def test_every_damaged_file_is_noticed_and_the_checkpoint_before_is_used(tmp_path, damage):
    checkpoint.save(tmp_path, 1, make_state(1), {"n": 1}, keep=2)
    folder = checkpoint.save(tmp_path, 2, make_state(2), {"n": 2, "a": "b" * 100}, keep=2)
    for path, content in contents(folder).items():
        if damage == "missing" or not content:
            path.unlink()
        elif damage == "cut":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.warns(UserWarning, match=f"{folder} is damaged .*; that of step 1 is used"):
            state, metadata = checkpoint.restore(tmp_path, make_state(0))
        assert_equal(state, make_state(1))
        assert metadata == {"n": 1}
        with pytest.raises(UserError, match=f"{folder} is damaged .*to use the others"):
            checkpoint.restore(tmp_path, make_state(0), step=2)
        path.write_bytes(content)
    assert_equal(checkpoint.restore(tmp_path, make_state(0))[0], make_state(2))


def test_where_all_are_damaged_the_newest_is_named(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"x": step}, {}, keep=2)
    for path in tmp_path.rglob("checkpoint.json"):
        path.write_text("{}")
    with pytest.raises(UserError, match="0002 is damaged .*; delete that folder to start anew"):
        checkpoint.restore(tmp_path, {"x": 0})
    assert checkpoint.metadata(tmp_path) is None and checkpoint.latest(tmp_path) == 2


def test_one_that_a_run_went_back_over_goes_with_the_next_save(tmp_path):
    for step in (10, 20, 30):
        folder = checkpoint.save(tmp_path, step, {"x": step}, {}, keep=3)
    (folder / "checkpoint.json").write_text("{")
    checkpoint.save(tmp_path, 25, {"x": 25}, {}, keep=2)
    assert checkpoint.restore(tmp_path, {"x": 0})[0] == {"x": 25}
    assert names(tmp_path) == ["000000000020", "000000000025"]


def test_every_change_of_the_metadata_is_noticed(tmp_path):
    """Of its own file too, whatever else in it is changed to fit."""
    metadata = {"frames": 600, "replay": {"rows": [600]}, "finished_frames": 0}
    folder = checkpoint.save(tmp_path, 1, {"x": 1}, metadata, keep=1)
    path = folder / "checkpoint.json"
    text = path.read_text()
    changes = [('"frames": 600', '"frames": 200'), ('"rows": [', '"rows": [1'), ('"sum"', '"sun"')]
    for old, new in changes:
        assert old in text
        path.write_text(text.replace(old, new, 1))
        assert checkpoint.metadata(tmp_path) is None
        with pytest.raises(UserError, match="checkpoint.json (is not what|cannot be read)"):
            checkpoint.restore(tmp_path, {"x": 0})


def test_one_of_version_0_1_has_no_sum_of_its_own(tmp_path):
    folder = checkpoint.save(tmp_path, 1, {"x": 1}, {"n": 1}, keep=1)
    path = folder / "checkpoint.json"
    index = json.loads(path.read_text())
    del index["sum"]
    path.write_text(json.dumps(index))
    assert checkpoint.restore(tmp_path, {"x": 0}) == ({"x": 1}, {"n": 1})
    path.write_text(json.dumps(index | {"leaves": [{}]}))
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.restore(tmp_path, {"x": 0})


class Killed(BaseException):
    """Ends whatever goes on as a kill does: nobody catches it."""


def kill_at(monkeypatch, directory, call, moment):
    """Lets no more than so many renames, or removals, of a checkpoint happen."""
    module, name = {"rename": (os, "rename"), "rmtree": (shutil, "rmtree")}[call]
    whole, calls = getattr(module, name), []

    def dying(path, *rest, **options):
        mine = pathlib.Path(path).parent == directory and os.path.exists(
            path
        )  # Not one of Orbax's.
        calls.extend([path] * mine)
        if mine and len(calls) > moment:
            if name == "rmtree":  # In the middle of it.
                next(p for p in pathlib.Path(path).rglob("*") if p.is_file()).unlink()
            raise Killed
        return whole(path, *rest, **options)

    monkeypatch.setattr(module, name, dying)


@pytest.mark.parametrize(
    "call, moment, step, value",
    [
        ("rename", 0, 600, 1),  # Of the first, which is complete.
        ("rename", 1, 600, 1),  # Of the old one of the same step, which makes room.
        ("rename", 2, 600, 2),
        ("rename", 3, 700, 3),
        ("rename", 4, 700, 3),  # Of the older one, which goes.
        ("rmtree", 0, 600, 2),
        ("rmtree", 1, 700, 3),
    ],
)
def test_a_kill_at_any_moment_leaves_a_checkpoint(call, moment, step, value, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, tmp_path, call, moment)
        for number, x in ((600, 1), (600, 2), (700, 3)):
            checkpoint.save(tmp_path, number, {"x": x}, {"x": x}, keep=1)
    assert checkpoint.latest(tmp_path) == step
    assert checkpoint.metadata(tmp_path) == {"x": value}
    before = names(tmp_path)
    assert checkpoint.restore(tmp_path, {"x": 0}) == ({"x": value}, {"x": value})
    assert names(tmp_path) == before  # Whoever only reads changes nothing.
    checkpoint.save(tmp_path, 800, {"x": 4}, {}, keep=2)
    assert names(tmp_path) == [f"{step:012d}", "000000000800"]
    assert checkpoint.restore(tmp_path, {"x": 0}, step=step)[0] == {"x": value}


def test_a_half_written_one_does_not_count(tmp_path):
    folder = checkpoint.save(tmp_path, 5, {"x": 1}, {}, keep=1)
    folder.rename(tmp_path / ".saving-000000000005")
    assert checkpoint.latest(tmp_path) == 5
    for path in contents(tmp_path):
        if path.name != "checkpoint.json":
            path.write_bytes(b"")
    assert checkpoint.latest(tmp_path) is None
    with pytest.raises(UserError, match="none is there"):
        checkpoint.restore(tmp_path, {"x": 0})


def test_files_and_folders_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    kept, before, rename = [], [], os.rename

    def renamed(source, target):
        if pathlib.Path(target).parent == tmp_path / "new":
            before.extend(kept)
        rename(source, target)

    monkeypatch.setattr(checkpoint, "keep_on_disk", kept.append)
    monkeypatch.setattr(os, "rename", renamed)
    folder = checkpoint.save(tmp_path / "new", 1, {"x": np.ones(3)}, {}, keep=1)
    temporary = folder.with_name(f".saving-{folder.name}")
    here = {path.relative_to(folder) for path in (*folder.rglob("*"), folder)}
    assert {path.relative_to(temporary) for path in before} == here
    assert kept[len(before) :] == [tmp_path / "new", tmp_path]


def test_a_failed_save_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"x": 1}, {}, keep=1)
    before = contents(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_swap", fail)
    with pytest.raises(UserError, match="No space left on device; free space"):
        checkpoint.save(tmp_path, 2, {"x": 2}, {}, keep=1)
    assert contents(tmp_path) == before and len(list(tmp_path.iterdir())) == 1


def test_metadata_that_json_cannot_hold_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "new", 1, {"x": 1}, {"a": object()}, keep=1)
    assert not (tmp_path / "new").exists()


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path):
    (tmp_path / ".saving-000000000009").mkdir(parents=True)
    assert checkpoint.latest(tmp_path) is None
    checkpoint.save(tmp_path, 1, {"x": 1}, {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001"]


def test_small_states_are_fast_and_silent(tmp_path, capfd):
    checkpoint.save(tmp_path, 1, make_state(), {}, keep=1)
    start = time.monotonic()
    checkpoint.save(tmp_path, 2, make_state(), {}, keep=1)
    checkpoint.restore(tmp_path, make_state())
    assert time.monotonic() - start < 2
    assert capfd.readouterr() == ("", "")


def test_files_are_json_and_arrays(tmp_path):
    folder = checkpoint.save(tmp_path, 1, make_state(), {"frames": 3}, keep=1)
    index = json.loads((folder / "checkpoint.json").read_text())
    assert index["metadata"] == {"frames": 3}
    assert not any(content.startswith(b"\x80\x04") for content in contents(folder).values())


def test_sharded_arrays_keep_their_sharding(tmp_path):
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    like = {"x": jax.device_put(jnp.arange(8.0), sharding)}
    checkpoint.save(tmp_path, 1, like, {}, keep=1)
    restored = checkpoint.restore(tmp_path, like)[0]["x"]
    assert restored.sharding.device_set == like["x"].sharding.device_set
    np.testing.assert_array_equal(restored, like["x"])


def test_metadata_is_read_without_the_arrays(tmp_path):
    assert checkpoint.metadata(tmp_path / "none") is None
    for step in (3, 12):
        checkpoint.save(tmp_path, step, {"w": jnp.ones(2)}, {"frames": step}, keep=2)
    assert checkpoint.metadata(tmp_path) == {"frames": 12}
    (tmp_path / f"{12:012d}" / "checkpoint.json").write_text('{"meta')
    assert checkpoint.metadata(tmp_path) == {"frames": 3}
