"""Notes of an agent beside the rows: they come back with every row of a window."""

from __future__ import annotations

import numpy as np
import pytest

from common.replay import Replay, ReplayConfig
from common.replay.episodes import read_episodes
from tests.replay.rows import SPECS, Streams

NOTE, LATENT = "note/bonus", "latent_state/deter"
NOTED = SPECS | {NOTE: ((2,), np.float32)}


def note(ids):
    """What a test notes of rows ``[..., 2]`` that name their stream and time."""
    return np.stack([ids[..., 0] + 10 * ids[..., 1], np.ones(ids.shape[:-1])], -1)


def fill(replay, steps, noted=lambda step: True, latents=False):
    streams = Streams(2, (7,))
    for step in range(steps):
        rows = streams.step()
        replay.add(rows)
        if noted(step):
            more = {LATENT: np.ones((2, 3), np.uint16)} if latents else {}
            replay.annotate({NOTE: note(rows["id"])} | more)


@pytest.mark.parametrize("latents", [False, True])
def test_every_row_of_a_window_comes_with_its_note(latents):
    """Those of which nothing was noted have zeros; latent states are those of the row before."""
    specs = NOTED | ({LATENT: ((3,), np.uint16)} if latents else {})
    replay = Replay(ReplayConfig(capacity=1000, length=5, latents=latents), None, specs, 2, seed=0)
    fill(replay, 60, lambda step: step >= 20, latents)
    batch = replay.sample(300, 5)
    assert batch[NOTE].shape == (300, 5, 2)
    known = batch["id"][..., 1] >= 20
    assert known.any() and not known.all()
    np.testing.assert_array_equal(batch[NOTE], np.where(known[..., None], note(batch["id"]), 0))
    assert (LATENT in batch) == latents


def test_notes_are_found_again_and_others_pass_them_over(tmp_path):
    config = ReplayConfig(capacity=1000, length=5)
    replay = Replay(config, tmp_path, NOTED, 2, seed=0)
    fill(replay, 40)
    replay.flush()
    again = Replay(config, tmp_path, NOTED, 2, seed=0)
    batch = again.sample(100, 5)
    # That of the last row of a chunk too, which was written before its note.
    np.testing.assert_array_equal(batch[NOTE], note(batch["id"]))
    without = Replay(config, tmp_path, SPECS, 2, seed=0)
    assert NOTE not in without.sample(3, 5)
    episodes = read_episodes(tmp_path)
    assert episodes and all(NOTE not in one for one in episodes)


def test_notes_do_not_come_from_environments():
    replay = Replay(ReplayConfig(capacity=1000, length=5), None, NOTED, 2, seed=0)
    rows = Streams(2, (7,)).step()
    with pytest.raises(ValueError, match="rows have"):
        replay.add(rows | {NOTE: note(rows["id"])})
