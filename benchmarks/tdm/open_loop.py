"""How far predictions from actions alone are off, step by step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from benchmarks.tdm.contenders import Fitted
from benchmarks.tdm.scale import Scale, one_episode
from common.replay.episodes import Episode
from common.tokens.steps import Steps
from planet.model import PlannedModel


def cut_windows(
    episodes: Sequence[Episode], count: int, length: int, sizes: Sequence[int], seed: int
) -> Steps:
    """Draws windows ``[count, length]`` of real rows, as often of each episode as it is long.

    Args:
        episodes: Where from; those with fewer rows are passed over.
        count: Windows.
        length: Rows of each.
        sizes: Observation and action entries of the model.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    long = [one for one in episodes if len(one["reward"]) >= length]
    steps = [jax.tree.map(np.asarray, one_episode(one, *sizes)) for one in long]
    room = np.array([one.reward.shape[1] - length + 1 for one in steps])
    chosen = []
    for number in rng.choice(len(steps), count, p=room / room.sum()):
        begin = int(rng.integers(room[number]))
        rows = [x[0, begin : begin + length] for x in steps[number][:4]]
        rows[3] = rows[3] | (np.arange(length) == 0)
        chosen.append((*rows, *(x[0] for x in steps[number][4:])))
    return Steps(*map(np.stack, zip(*chosen, strict=True)))


def errors(
    model: PlannedModel, fitted: Fitted, windows: Steps, context: int, scale: Scale, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts the rows behind the first ``context`` ones from their actions.

    Args:
        model: The contender.
        fitted: Its parameters.
        windows: Real rows ``[N, context + H]``.
        context: Rows that the model sees.
        scale: Whose deviations errors are divided by: the same for all contenders.
        seed: Seed of the model's draws.

    Returns:
        Errors of observations and of rewards ``[H]``; see ``normalised_error``.
    """
    seen = Steps(*(x[:, :context] for x in windows[:4]), *windows[4:])
    key = jax.random.key(seed)
    imagined = _compiled(model)(fitted, key, seen, windows.action[:, context:])
    observation, reward = jax.device_get(imagined)
    present = windows.has_observation[0]
    return (
        normalised_error(
            observation[..., present],
            windows.observation[:, context:, present],
            scale.std[:-1][present],
        ),
        normalised_error(reward[..., None], windows.reward[:, context:, None], scale.std[-1:]),
    )


def normalised_error(predicted: np.ndarray, real: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Root of the mean over windows and entries of ((predicted - real) / std)^2.

    Args:
        predicted: ``[N, H, D]``.
        real: ``[N, H, D]``.
        std: Deviations of the entries over the data ``[D]``.

    Returns:
        The error of each step ``[H]``.
    """
    return np.sqrt(np.square((predicted - real) / std).mean((0, 2)))


@functools.lru_cache(maxsize=16)
def _compiled(model: PlannedModel) -> Callable:
    @jax.jit
    def imagine(fitted: Fitted, key: jax.Array, seen: Steps, actions: jax.Array) -> tuple:
        keys = jax.random.split(key, model.memory.draws + 1)
        start = model.start(fitted, keys[:-1], seen)
        return model.imagine(fitted, keys[-1], start, actions)

    return imagine
