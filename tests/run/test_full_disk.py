"""A full disk, for everything that a run writes: one line, and what was there before stays."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from common.export import export
from common.logging import JsonlSink, Logger, TensorBoardSink
from common.logging.tracking import _identity
from common.logging.video import write_video
from common.replay import Replay, ReplayConfig, write_chunk, write_episodes
from common.report.html import write_page
from common.run import checkpoint
from common.run import folder as run_folder
from tests.fake_agent import Config
from tests.full_disk import fill, full_disk, small_disk
from tests.replay.rows import SPECS, Streams
from tests.tiny import VECTOR, box

NOISE = np.random.default_rng(0).normal(size=30_000)
VIDEO = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3)).astype(np.uint8)


def write_rows(folder):
    """Rows of a replay, beyond those that it has on the disk."""
    replay = Replay(ReplayConfig(capacity=5000, length=2), folder / "replay", SPECS, 1, 0)
    streams = Streams(1, (7,))
    for _ in range(100):
        replay.add(streams.step())
    replay.flush()


def episode():
    """An episode as others record it."""
    streams = Streams(1, (9,))
    return {key: value.repeat(500, 0) for key, value in streams.step().items()}


def write_log(folder, write):
    """Opens a log, writes to it and closes it, whatever happens."""
    metrics = folder / "metrics.jsonl"
    logger = Logger(folder / "scores.jsonl", metrics, JsonlSink(metrics))
    try:
        write(logger)
    finally:
        logger.close()


def many_times(write):
    """More than any buffer holds."""
    for number in range(2000):
        write(number)


SCALARS = {f"a/{number}": 1.0 for number in range(100)}
PARAMS = {"a": {"w": NOISE}}
WRITERS = {
    "metrics": lambda d: write_log(d, lambda log: many_times(lambda n: log.write(n, SCALARS))),
    "scores": lambda d: write_log(d, lambda log: many_times(lambda n: log.score(n, SCALARS))),
    "log, resumed": lambda d: write_log(d, lambda log: log.rewind(10**9)),
    "TensorBoard": lambda d: many_times(lambda n: TensorBoardSink(d / "tb").scalars(n, SCALARS)),
    "config": lambda d: run_folder.write(d, "fake", Config()),
    "export": lambda d: export(d / "export.npz", "fake", Config(), VECTOR, box(2), PARAMS),
    "replay": write_rows,
    "chunk": lambda d: write_chunk(d / "a.npz", {"x": NOISE}),
    "episodes": lambda d: write_episodes(d / "data", [episode()]),
    "checkpoint": lambda d: checkpoint.save(d / "checkpoints", 1, {"w": NOISE}, {"n": 1}, 2),
    "report": lambda d: write_page(d / "report.html", "x" * 99_999),
    "video": lambda d: write_video(d / "policy.mp4", VIDEO),
    "animation": lambda d: write_video(d / "policy.gif", VIDEO),
    "identity": lambda d: _identity(d / "wandb"),
}


def prepare(folder):
    """What is there before the disk is full: a log that a run can go on with."""
    write_log(folder, lambda log: [log.write(n, SCALARS) for n in range(9)])


def contents(folder):
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(write, folder):
    """Writes where there is no room; returns the only line that this is."""
    with pytest.raises(UserError) as raised:
        write(folder)
    assert "\n" not in str(raised.value) and "cannot" in str(raised.value)
    left = [path for path in folder.rglob(".*") if path.name not in (".", "..")]
    assert not left, left
    return str(raised.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_may_not_grow(name, tmp_path):
    prepare(tmp_path)
    with full_disk():
        refused(WRITERS[name], tmp_path)


REPLACED = ("config", "export", "chunk", "checkpoint", "report")


@pytest.mark.parametrize("name", REPLACED)
def test_what_was_there_before_stays(name, tmp_path):
    WRITERS[name](tmp_path)
    before = contents(tmp_path)
    with full_disk():
        refused(WRITERS[name], tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_without_room(name, tmp_path):
    """As the system says it, where a small disk may be mounted."""
    with small_disk(tmp_path / "disk", "200k"):
        (tmp_path / "disk" / "old").write_text("old")
        prepare(tmp_path / "disk")
        fill(tmp_path / "disk")
        message = refused(WRITERS[name], tmp_path / "disk")
        assert "No space left on device" in message or name == "video"
        assert (tmp_path / "disk" / "old").read_text() == "old"
