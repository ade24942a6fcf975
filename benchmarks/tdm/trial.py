"""What every experiment does with a task: fit, predict, plan, measure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.tdm import contenders, open_loop, play
from benchmarks.tdm.clone import Cloned
from benchmarks.tdm.contenders import Fitted
from benchmarks.tdm.fitting import Progress, fit
from benchmarks.tdm.presets import Preset
from benchmarks.tdm.scale import measure
from benchmarks.tdm.work import Cell, Split, Work
from common.replay.bodies import Bodies
from common.replay.episodes import Episode
from common.run.driver import RandomPolicy
from common.run.evaluation import play as play_episodes
from planet.model import PlannedModel

METHODS = ("tdm", "ensemble", "rssm")
"""Names of the contenders."""
EPISODE_SEED = 10_000
"""Added to a cell's seed for its environments: their episodes are none of the data's."""


def contender(preset: Preset, method: str, sizes: Sequence[int]) -> PlannedModel:
    """Returns a contender by its name.

    Args:
        preset: Its options.
        method: One of ``METHODS``.
        sizes: Observation and action entries of the largest body.
    """
    shape = preset.context, *sizes
    if method == "tdm":
        samples = preset.samples if preset.tdm.decode == "sample" else 1
        return contenders.make_tdm(preset.tdm, *shape, samples)
    if method == "ensemble":
        return contenders.make_ensemble(preset.ensemble, *shape)
    return contenders.make_rssm(preset.rssm, *shape, preset.samples)


def learn(
    work: Work,
    model: PlannedModel | Cloned,
    name: str,
    episodes: Mapping[str, Sequence[Episode]],
    cell: Cell,
    start: Fitted | None = None,
) -> Progress:
    """Fits a contender on episodes.

    Args:
        work: Says how.
        model: What learns.
        name: Which of ``Preset.fits`` applies.
        episodes: By task name.
        cell: Gives the seed, and its name to what is printed.
        start: As of ``fitting.fit``.
    """
    bodies = Bodies(episodes)
    scale = measure(episodes, bodies.observation_size, bodies.action_size)
    say = lambda words: print(f"{cell}: {words}", flush=True)  # noqa: E731
    return fit(model, bodies, scale, work.preset.fits[name], cell.seed, start, say)


def judge(
    work: Work, model: PlannedModel, fitted: Fitted, cell: Cell, split: Split, sizes: Sequence[int]
) -> dict[str, Any]:
    """Measures open-loop errors and returns of a contender on the task of a cell.

    The windows, the start states and the scale of errors depend on the task and the seed
    alone, so that all contenders face the same.

    Args:
        work: Says how.
        model: The contender.
        fitted: Its parameters.
        cell: Task and seed.
        split: Episodes of the task.
        sizes: Observation and action entries of the model.

    Returns:
        What a record keeps.
    """
    preset, begin = work.preset, time.monotonic()
    length = preset.context + preset.horizon
    windows = open_loop.cut_windows(split.held_back, preset.windows, length, sizes, cell.seed)
    scale = measure({cell.task: split.training}, *sizes)
    errors = open_loop.errors(model, fitted, windows, preset.context, scale, cell.seed)
    predicted = time.monotonic()
    returns = play.returns(
        cell.task,
        preset.env(cell.task),
        preset.episodes,
        EPISODE_SEED + cell.seed,
        lambda actions: play.planning(model, preset.planner, actions),
        fitted,
    )
    return {
        "observation_error": rounded(errors[0]),
        "reward_error": rounded(errors[1]),
        "returns": rounded(returns),
        "best_return": preset.best_return,
        "predict_seconds": round(predicted - begin, 2),
        "play_seconds": round(time.monotonic() - predicted, 2),
    }


def act_randomly(work: Work, cell: Cell, split: Split) -> dict[str, Any]:
    """Plays random actions from the start states of ``judge``; beside them, the data's returns."""
    preset, seed = work.preset, EPISODE_SEED + cell.seed
    results = play_episodes(
        cell.task,
        preset.env(cell.task),
        preset.episodes,
        seed,
        lambda envs: RandomPolicy(envs.action_spec, seed),
    )
    collected = np.array([episode["reward"].sum() for episode in split.training])
    return {
        "returns": rounded(results.all.returns),
        "best_return": preset.best_return,
        "data_returns": rounded(collected),
    }


def fitted_words(progress: Progress) -> dict[str, Any]:
    """What a record keeps of learning."""
    return {"loss": round(progress.loss, 5), "fit_seconds": round(progress.seconds, 2)}


def rounded(values: np.ndarray) -> list[float]:
    """Numbers of a record."""
    return [round(float(value), 5) for value in values]
