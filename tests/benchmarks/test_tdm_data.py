"""What each learner of the experiments is given: which bodies, how much, where it starts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.tdm import few_shot, pretrain, trial
from benchmarks.tdm.contenders import Fitted
from benchmarks.tdm.fitting import Fitting, Progress
from benchmarks.tdm.work import Cell, Split, Work
from tests.benchmarks.tdm_linear import linear_episodes
from tests.benchmarks.test_tdm_experiments import TINY

MEMBER, TARGET = "dmc_cartpole_swingup@1", "dmc_cartpole_swingup@2"
ROWS = 20


@pytest.fixture(name="given")
def _given(tmp_path, monkeypatch):
    """Every call of ``fit``, with data that are there for each task; nothing is learned."""
    calls, splits = [], {}

    def load(work, task):
        episodes = linear_episodes(len(splits), count=5)
        return splits.setdefault(task, Split(episodes[1:], episodes[:1]))

    def fit(model, bodies, scale, fitting, seed, start, say):
        calls.append({"bodies": bodies, "scale": scale, "fitting": fitting, "start": start})
        return Progress(Fitted({"w": np.zeros(1)}, scale), 0.0, 0.0)

    for module in (few_shot, pretrain):
        monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(trial, "fit", fit)
    monkeypatch.setattr(few_shot, "judge", lambda work, model, fitted, *rest: {"fitted": fitted})
    fits = {name: Fitting(updates=2 + number) for number, name in enumerate(TINY.fits)}
    return Work(dataclasses.replace(TINY, fits=fits), tmp_path, tmp_path), calls, splits


@pytest.mark.parametrize(("method", "episodes"), [("tdm", 4), ("policy", 4), ("policy-best", 2)])
def test_generalists_never_see_the_bodies_that_are_held_out(given, method, episodes):
    work, calls, splits = given
    pretrain.compute(work, Cell("pretrain", "dmc_cartpole_swingup", method, -1, 1))
    (call,) = calls
    assert call["bodies"].names == (MEMBER,) and set(splits) == {MEMBER}
    assert call["bodies"].rows == ROWS * episodes
    name = "generalist" if method == "tdm" else "policy"
    assert call["start"] is None and call["fitting"] is work.preset.fits[name]


@pytest.mark.parametrize("method", few_shot.METHODS)
def test_fine_tuning_starts_from_the_generalist_and_the_other_from_nothing(
    given, method, monkeypatch
):
    work, calls, _ = given
    generalist = Fitted({"w": np.ones(1)}, "the scale of the family")
    monkeypatch.setattr(pretrain, "read_weights", lambda *args: generalist)
    few_shot.compute(work, Cell("few-shot", TARGET, method, 1, 1))
    (call,) = calls
    assert call["bodies"].names == (TARGET,) and call["bodies"].rows == ROWS
    assert call["start"] is (generalist if method == "fine-tuned" else None)
    name = "fine-tuned" if method == "fine-tuned" else "tdm"
    assert call["fitting"] is work.preset.fits[name]
