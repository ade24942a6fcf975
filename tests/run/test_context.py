"""What a run does with latent states, newly collected windows and ratios of replayed rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.replay import Replay, write_episodes
from common.run.clocks import Ratio
from common.run.learner import AgentLearner
from tests.fake_agent import INFERRED, KEPT
from tests.run.test_clocks import drain
from tests.run.test_survival import DEFAULT, QUIET, episode, weight
from tests.run.test_train import counters, run

LATENTS = {"replay__latents": True, "run__eval_episodes": 0, "run__random_episodes": 0}


@pytest.fixture
def batches(monkeypatch):
    """What every update learned from."""
    seen, update = [], AgentLearner.update

    def recorded(self, batch):
        seen.append({key: np.asarray(value) for key, value in batch.items()})
        return update(self, batch)

    monkeypatch.setattr(AgentLearner, "update", recorded)
    return seen


def _kept(batch):
    """What was kept of the rows before the windows, and how many rows those had behind them."""
    return batch[KEPT][:, 0].astype(int), (batch["count"][:, 0, 0] - 1).astype(int) % 6


@pytest.mark.parametrize("prefetch", [0, 2])
def test_windows_begin_with_what_policy_and_updates_inferred(batches, prefetch, tmp_path):
    options = {**LATENTS, "run__train_every": 1, "run__frames": 200, "replay__prefetch": prefetch}
    run(tmp_path, env__amount=2, **options)
    pairs = [np.stack(_kept(batch), 1) for batch in batches]
    kept, rows = np.concatenate(pairs).T
    acted, inferred = kept == rows + 1, kept == rows + 1 + INFERRED
    assert (acted | inferred | (kept == 0)).all()
    assert 0.02 < acted.mean() < 0.6 and inferred.mean() > 0.3
    # Of random rows nothing is known; they are the first ones, and none of them is left soon.
    assert (pairs[0][:, 0] == 0).any() and not (np.concatenate(pairs[-20:])[:, 0] == 0).any()


def test_an_update_is_written_back_one_update_later(batches, tmp_path):
    """So that a device need not be waited for."""
    options = {**LATENTS, "run__train_every": 1, "replay__prefetch": 0, "replay__capacity": 100}
    run(tmp_path, run__pretrain=8, **options)
    known = [bool((_kept(batch)[0] > INFERRED).any()) for batch in batches]
    assert not any(known[:2]) and any(known[2:])


def test_what_the_last_update_inferred_is_written_back_at_the_end(batches, tmp_path, monkeypatch):
    """A run that goes on begins its windows there too."""
    written, write_back = [], Replay.write_back

    def counted(self, windows, latents):
        written.append(windows)
        write_back(self, windows, latents)

    monkeypatch.setattr(Replay, "write_back", counted)
    run(tmp_path, run__frames=60, run__train_every=1, **LATENTS)
    assert len(written) == len(batches) > 0


def test_the_same_seed_learns_the_same_with_latents(tmp_path):
    options = {**LATENTS, **QUIET, "env__amount": 2, "run__train_every": 1, "replay__online": True}
    for name in ("one", "other"):
        run(tmp_path / name, **DEFAULT, **options)
    np.testing.assert_array_equal(weight(tmp_path / "one"), weight(tmp_path / "other"))


def test_a_stopped_run_goes_on_with_its_latents(batches, tmp_path):
    run(tmp_path, run__frames=100, run__train_every=1, **LATENTS)
    batches.clear()
    run(tmp_path, run__frames=200, run__train_every=1, **LATENTS)
    assert (_kept(batches[0])[0] > 0).all()


def test_a_burn_in_makes_batches_longer(batches, tmp_path):
    run(tmp_path, replay__burn_in=3)
    assert {batch["reward"].shape for batch in batches} == {(2, 7)}


def test_newly_collected_rows_are_learned_from_once_and_soon(batches, tmp_path):
    """Ratio 8 with 2x4 rows: an update for every row, and in every fourth of them a new window."""
    options = {"run__train_every": 0, "run__train_ratio": 8, "run__prefill": 0, "run__pretrain": 0}
    run(tmp_path, replay__online=True, run__random_episodes=0, run__eval_episodes=0, **options)
    first = [tuple(batch["count"][0, :, 0].astype(int)) for batch in batches]
    windows = [tuple((4 * i + j) % 6 for j in range(4)) for i in range(20)]
    assert first[0] == windows[0] and first[3::4][:19] == windows[1:]


class TestRatio:
    """Replayed rows for every row that is collected."""

    def test_rows_of_resets_count(self, tmp_path):
        options = {"run__train_every": 0, "run__train_ratio": 4, "run__pretrain": 1}
        run(tmp_path, run__prefill=20, **options, **QUIET)
        found = counters(tmp_path)
        # 100 steps are 120 rows; at step 20 there are 24 of them, at the last decision 119.
        assert found["rows"] == 120 and found["updates"] == 1 + (119 - 24) * 4 // 8

    @settings(max_examples=100, deadline=None)
    @given(st.floats(0.01, 4), st.lists(st.integers(0, 40), min_size=1, max_size=40))
    def test_it_counts_as_the_reference(self, ratio, jumps):
        """elements.when.Ratio, which floors and carries: one at once, then by the ratio."""
        ours, step = Ratio(ratio, first=1), 100
        total, theirs, previous = drain(ours, step), 1, step
        for jump in jumps:
            step += jump
            total += drain(ours, step)
            repeats = int((step - previous) * ratio)
            previous += repeats / ratio
            theirs += repeats
            # Theirs adds up fractions: where a sum is whole, it may be a hair short of it.
            whole = abs((step - 100) * ratio % 1 - 0.5) > 0.49
            assert abs(total - theirs) <= whole

    def test_learning_begins_with_enough_windows(self, tmp_path, batches):
        run(tmp_path, replay__minimum=60, run__prefill=0, run__train_every=1, run__pretrain=0)
        assert len(batches) == pytest.approx(100 - 54, abs=2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"run__train_ratio": 3}, "train_every is 2 and run.train_ratio is 3; one of them says"),
        ({"run__train_every": 0}, "train_every is 0 and run.train_ratio is 0; one of them says"),
        (
            {"run__train_every": 0, "run__train_ratio": 0.5, "replay__online": True},
            "run.train_ratio is 0.5; replay.online true, which learns from every row, needs at",
        ),
        (
            {"run__train_every": 9, "replay__online": True},
            "train_every is 9; replay.online true, which learns from every row, needs at most 8",
        ),
        (
            {"run__train_every": 0, "run__train_ratio": 1e-6, "run__pretrain": 0},
            "run.train_ratio is 1e-06, which makes no update in 100 frames",
        ),
        ({"run__train_every": 1e6, "run__pretrain": 0}, "run.train_every is 1e.06, which makes no"),
        ({"replay__latents": True, "replay__burn_in": 2}, "replay.latents true needs replay.burn_"),
        ({"replay__minimum": 99}, "learning starts after 102 frames"),
    ],
)
def test_impossible_ratios_are_one_line(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_data_hold_no_latents(tmp_path):
    write_episodes(tmp_path / "data", [episode(0)])
    with pytest.raises(UserError, match="data holds no latent states .* set replay.latents false"):
        run(tmp_path / "run", run__data=str(tmp_path / "data"), replay__latents=True)
    assert not (tmp_path / "run").exists()
