"""Recorded states, in which policies are compared without an episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.selection.candidates import Candidate
from common.envs.registry import action_repeat
from common.errors import UserError
from common.replay import read_episodes
from common.replay.chunks import check_chunk
from common.replay.episodes import Episode
from common.rows import COST, row_specs
from common.run.folder import REPLAY
from common.run.loading import LoadedAgent
from common.run.offline import episode_folders
from common.run.recorded import check_repeats

EPISODES, STATES = 16, 1000
"""Episodes that every policy goes through, and states among theirs that are compared."""
LONGEST = 1000
"""Rows of each of these, at most."""
STARTS = 64
"""First states of episodes, from which policies act in imagination."""


class Logged(NamedTuple):
    """Recorded rows, the same for all policies.

    Attributes:
        rows: Of some episodes, ``[T, E, ...]``; shorter ones repeat their last row.
        chosen: Which of them count, as indices into T and E.
        starts: First rows of more episodes ``[S, ...]``.
        length: Agent steps of an episode, on average.
    """

    rows: dict[str, np.ndarray]
    chosen: tuple[np.ndarray, np.ndarray]
    starts: dict[str, np.ndarray]
    length: int


def read_logged(candidates: Sequence[Candidate], data: str | None, seed: int) -> Logged:
    """Reads recorded episodes, as evenly from all folders and all times as their number allows.

    Args:
        candidates: Whose runs have recorded episodes, where there is no data.
        data: As ``run.data``: another folder of episodes; None for those of the runs.
        seed: Of the choice of states.

    Raises:
        UserError: There are none, or they do not fit the policies.
    """
    agent = candidates[0].agent
    task = agent.config.task
    if data:
        folders = episode_folders(data, task)
        check_repeats(folders, action_repeat(task, agent.config.env.action_repeat))
    else:
        runs = dict.fromkeys(one.path for one in candidates if one.path.is_dir())
        folders = [run / REPLAY for run in runs if any((run / REPLAY).glob("*.npz"))]
    if not folders:
        raise UserError(
            "no candidate has recorded episodes, and policies are compared in those; name some by "
            "--data"
        )
    every, starts, lengths = [], [], []
    for folder in _spread(folders, EPISODES):
        found = read_episodes(folder)
        if not found:
            continue
        specs = row_specs(agent.observations, agent.actions, COST in found[0])
        check_chunk(folder, found[0], specs, "name others by --data")
        every += _spread(found, -(-EPISODES // len(folders)))
        starts += [one_row(one, 0) for one in _spread(found, -(-STARTS // len(folders)))]
        lengths += [len(one["reward"]) - 1 for one in found if one["is_last"][-1]]
    if not every:
        raise UserError(f"{folders[0]} holds no whole step of an episode; name others by --data")
    every = _spread(every, EPISODES)
    lengths = lengths or [len(one["reward"]) - 1 for one in every]
    return Logged(*_stack(every, agent, seed), _stacked(starts, agent), round(np.mean(lengths)))


def actions_in(agent: LoadedAgent, logged: Logged, seed: int) -> np.ndarray:
    """Returns what a policy would do in the chosen states ``[M, A]``.

    It goes through each episode with a memory of its own, and remembers there the actions that
    were taken, not those that it would have taken.
    """
    function, key = agent.act_function, jax.random.key(seed)
    length, amount = logged.rows["is_first"].shape
    carry, found = function.agent.initial_carry(amount), []
    for t in range(length):
        rows = {name: value[t] for name, value in logged.rows.items()}
        carry = carry._replace(action=rows.pop("action"))
        key, action, carry = function(agent.params, key, carry, rows, mode="eval")
        found.append(np.asarray(action))
    return np.stack(found)[logged.chosen]


def policy_distances(actions: np.ndarray) -> np.ndarray:
    """Returns the mean Euclidean distance of actions ``[K, M, A]`` in the same states ``[K, K]``.

    Choices are one-hot, so that two different ones are the square root of 2 apart.
    """
    actions = np.asarray(actions, np.float64)
    return np.stack([np.linalg.norm(actions - one, axis=-1).mean(-1) for one in actions])


def one_row(episode: Episode, row: int) -> Episode:
    """Returns one row of an episode ``[...]``."""
    return {name: value[row] for name, value in episode.items()}


def _spread(items: Sequence[Any], amount: int) -> list[Any]:
    """Returns at most so many items, evenly from all."""
    places = np.linspace(0, len(items) - 1, min(amount, len(items)))
    return [items[place] for place in np.round(places).astype(int)]


def _stack(
    episodes: Sequence[Episode], agent: LoadedAgent, seed: int
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns ``Logged.rows`` and ``Logged.chosen``."""
    lengths = np.array([min(len(one["is_first"]), LONGEST) for one in episodes])
    places = [np.minimum(np.arange(lengths.max()), length - 1) for length in lengths]
    columns = [
        {name: value[place] for name, value in one.items()}
        for one, place in zip(episodes, places, strict=True)
    ]
    rows = {name: value.swapaxes(0, 1) for name, value in _stacked(columns, agent).items()}
    real = np.flatnonzero(np.arange(lengths.max())[:, None] < lengths)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(real, min(STATES, len(real)), replace=False))
    return rows, np.unravel_index(chosen, (lengths.max(), len(episodes)))


def _stacked(rows: Sequence[Episode], agent: LoadedAgent) -> dict[str, np.ndarray]:
    """Joins what agents see of rows, and the actions, along a new first axis."""
    names = (*agent.observations, "action", "reward", "is_first", "is_last", "is_terminal")
    return {name: np.stack([one[name] for one in rows]) for name in names}
