"""Datasets of Minari (https://minari.farama.org), read and written as episodes.

Minari holds T actions, rewards, terminations and truncations beside T + 1 observations:
action t is chosen on observation t. A row here holds the action that *led to* it, so
Minari's action t and reward t belong to row t + 1, and row 0 has zeros:

    ==============  =======  ===========  ===========  =====  =============
    row             0        1            2            ...    T
    ==============  =======  ===========  ===========  =====  =============
    observation     o[0]     o[1]         o[2]         ...    o[T]
    action, reward  0        a[0], r[0]   a[1], r[1]   ...    a[T-1], r[T-1]
    ``is_last``     no       no           no           ...    ended
    ==============  =======  ===========  ===========  =====  =============

Actions are scaled between [-1, 1] here and the bounds of the action space there. What is
float32 and has bounds of -1 and 1 comes back to the bit. Choices, Discrete or MultiDiscrete,
come in as one-hot.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np

from common.errors import UserError
from common.replay.episodes import Episode
from common.replay.foreign import check_episode
from common.rows import ROW_KEYS, row_specs
from common.spaces import ActionPart, ActionSpec, ObservationSpec, action_spec, flatten_observation
from common.spaces import observation_specs as describe_observations

_NAME = re.compile(r"([-\w]+/)*[-\w]+-v\d+")


def write_minari(
    name: str, episodes: Iterable[Episode], action_space: gymnasium.spaces.Box | None = None
) -> None:
    """Writes episodes as a local Minari dataset.

    Args:
        name: Its id, such as "cartpole/swingup-v0"; there must be none of that name.
        episodes: Of one body: the same keys and shapes in all. Observations become a Dict
            space, nested where keys hold a "/".
        action_space: Bounds to which actions are scaled; None for [-1, 1].

    Raises:
        UserError: Minari is not installed, the name is none or is taken, or there are no
            episodes.
    """
    minari = _minari()
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of a Minari dataset; expected one as cup/catch-v0")
    episodes = list(episodes)
    if not episodes:
        raise UserError("there are no episodes to write")
    if action_space is None:
        action_space = gymnasium.spaces.Box(-1, 1, episodes[0]["action"].shape[1:], np.float32)
    (part,) = action_spec(action_space).parts
    buffers = [_to_buffer(minari, one, action_space, part) for one in episodes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About authors and links that we do not have.
        try:
            minari.create_dataset_from_buffers(
                dataset_id=name,
                buffer=buffers,
                observation_space=_observation_space(episodes[0]),
                action_space=action_space,
                data_format="hdf5",
                jpeg_encoding=False,  # It would change pictures.
            )
        except ValueError as error:
            raise UserError(f"Minari did not take {name!r}: {error}") from error


def read_minari(name: str) -> tuple[int, Iterator[Episode]]:
    """Opens a local Minari dataset.

    Args:
        name: Its id.

    Returns:
        The number of its episodes, and an iterator that reads them one by one. Observation
        keys are those of the same environment as a task; a Box alone is "vector". The iterator
        raises a UserError where an episode does not hold what the spaces say.

    Raises:
        UserError: Minari is not installed, there is no such dataset here, or its spaces
            are not those of a task.
    """
    minari = _minari()
    try:
        dataset = minari.load_dataset(name)
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise UserError(
            f"there is no Minari dataset {name!r} here; run minari download {name}, or "
            "minari list local to see what there is"
        ) from error
    specs = describe_observations(dataset.observation_space), action_spec(dataset.action_space)
    found = dataset.iterate_episodes()
    return dataset.total_episodes, (_checked(name, one, *specs) for one in found if len(one))


def _minari() -> Any:
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError as error:
        raise UserError(
            f"Minari is not installed here ({error}); run pip install minari h5py"
        ) from error
    return minari


def _checked(
    name: str, found: Any, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Episode:
    source = f"episode {found.id} of {name}"
    try:
        episode = _to_episode(found, observations, actions)
    except (LookupError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"{source} does not hold what its spaces say: {words}") from error
    return check_episode(episode, row_specs(observations, actions), source, actions=actions)


def _to_episode(found: Any, specs: Mapping[str, ObservationSpec], actions: ActionSpec) -> Episode:
    steps = len(found)
    flat = flatten_observation(found.observations)
    if list(flat) == [""]:
        flat = dict(zip(specs, flat.values(), strict=True))
    episode: Episode = {}
    for key, spec in specs.items():
        value = np.asarray(flat[key])
        if len(value) != steps + 1:
            raise ValueError(
                f"there are {len(value)} observations and {steps} steps; expected one observation "
                "more than steps"
            )
        if spec.choices:
            value = np.stack([spec.one_hots(key, row) for row in value])
        episode[key] = value.reshape(steps + 1, *spec.shape).astype(spec.dtype)
    blocks = [_block(found.actions, part) for part in actions.parts]
    episode["action"] = _late(np.concatenate(blocks, -1))
    episode["reward"] = _late(np.asarray(found.rewards))
    rows = np.arange(steps + 1)
    terminal, ended = bool(found.terminations[-1]), bool(found.truncations[-1])
    episode["is_first"] = rows == 0
    episode["is_last"] = (rows == steps) & (terminal or ended)
    episode["is_terminal"] = (rows == steps) & terminal
    return episode


def _late(values: np.ndarray) -> np.ndarray:
    """Puts values of steps ``[T, ...]`` into rows ``[T + 1, ...]``, zeros first."""
    return np.concatenate([np.zeros_like(values[:1]), values]).astype(np.float32)


def _middle_and_half(part: ActionPart) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.asarray(part.low), np.asarray(part.high)
    return (high + low) / 2, (high - low) / 2


def _block(actions: Any, part: ActionPart) -> np.ndarray:
    """One part of actions in their own units ``[T, ...]`` as ``[T, A]``: in [-1, 1], or one-hot."""
    for key in part.path:
        # The numbers of a path count the entries of a MultiDiscrete space.
        flat = isinstance(key, int)
        actions = np.reshape(actions, (len(actions), -1))[:, key] if flat else actions[key]
    if part.kind == "categorical":
        taken = np.ravel(actions) - part.start
        if taken.dtype.kind not in "iu" or (taken < 0).any() or (taken >= part.size).any():
            low, high = part.start, part.start + part.size - 1
            raise ValueError(f"an action is none of the choices {low} to {high}")
        return (taken[:, None] == np.arange(part.size)).astype(np.float32)
    middle, half = _middle_and_half(part)
    flat = np.asarray(actions, np.float64).reshape(-1, part.size)
    return np.clip((flat - middle) / np.where(half, half, 1), -1, 1)


def _to_buffer(
    minari: Any,
    episode: Episode,
    space: gymnasium.spaces.Box,
    part: ActionPart,
) -> Any:
    middle, half = _middle_and_half(part)
    actions = middle + half * episode["action"][1:].astype(np.float64)
    steps, last = len(actions), bool(episode["is_last"][-1])
    terminal = bool(episode["is_terminal"][-1])
    at_end = np.arange(steps) == steps - 1
    observations = {key: value for key, value in episode.items() if key not in ROW_KEYS}
    return minari.data_collector.EpisodeBuffer(
        observations=_nested(observations),
        actions=actions.reshape(steps, *space.shape).astype(space.dtype),
        rewards=episode["reward"][1:],
        terminations=at_end & terminal,
        truncations=at_end & (last and not terminal),
    )


def _observation_space(episode: Episode) -> gymnasium.spaces.Dict:
    spaces = {}
    for key, value in episode.items():
        if key not in ROW_KEYS:
            low, high = (0, 255) if value.dtype == np.uint8 else (-np.inf, np.inf)
            spaces[key] = gymnasium.spaces.Box(low, high, value.shape[1:], value.dtype)

    def as_space(tree: Any) -> gymnasium.Space:
        if not isinstance(tree, dict):
            return tree
        return gymnasium.spaces.Dict({key: as_space(child) for key, child in tree.items()})

    return as_space(_nested(spaces))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turns "outer/inner" into dicts in one another."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, last = path.split("/")
        inner = nested
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return nested
