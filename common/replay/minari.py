"""Datasets of Minari (https://minari.farama.org), read and written as episodes.

It holds what ``common.replay.logs.transitions`` describes: T actions, rewards, terminations and
truncations beside T + 1 observations.

Actions are scaled between [-1, 1] here and the bounds of the action space there. What is
float32 and has bounds of -1 and 1 comes back to the bit. Choices, Discrete or MultiDiscrete,
are one-hot here, and numbers beyond the bounds are cut off.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from common.errors import UserError
from common.replay.episodes import Episode
from common.replay.logs.transitions import Transitions, checked_episode, middle_and_half
from common.rows import ROW_KEYS
from common.spaces import ActionSpec, ObservationSpec, action_spec
from common.spaces import observation_specs as describe_observations

_NAME = re.compile(r"([-\w]+/)*[-\w]+-v\d+")


def write_minari(
    name: str, episodes: Iterable[Episode], action_space: gymnasium.Space | None = None
) -> None:
    """Writes episodes as a local Minari dataset.

    Args:
        name: Its id, such as "cartpole/swingup-v0"; there must be none of that name.
        episodes: Of one body: the same keys and shapes in all. Observations become a Dict
            space, nested where keys hold a "/".
        action_space: The space that actions are turned into; None for a Box of [-1, 1].

    Raises:
        UserError: Minari is not installed, the name is none or is taken, or there are no
            episodes, or their actions are none of that space.
    """
    minari = _minari()
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of a Minari dataset; expected one as cup/catch-v0")
    episodes = list(episodes)
    if not episodes:
        raise UserError("there are no episodes to write")
    if action_space is None:
        action_space = gymnasium.spaces.Box(-1, 1, episodes[0]["action"].shape[1:], np.float32)
    spec = action_spec(action_space)
    if (size := episodes[0]["action"].shape[1]) != spec.size:
        raise UserError(f"the episodes have actions of {size} numbers, their space {spec.size}")
    buffers = [_to_buffer(minari, one, spec) for one in episodes]
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


class Opened(NamedTuple):
    """A dataset that is being read.

    Attributes:
        amount: Its episodes.
        observations: What is read of them.
        actions: The flat action vector.
        episodes: Reads them one by one. It raises a UserError where an episode does not hold what
            the spaces say.
    """

    amount: int
    observations: Mapping[str, ObservationSpec]
    actions: ActionSpec
    episodes: Iterator[Episode]


def open_minari(
    name: str,
    observations: Mapping[str, ObservationSpec] | None = None,
    actions: ActionSpec | None = None,
) -> Opened:
    """Opens a local Minari dataset.

    Args:
        name: Its id.
        observations: What the task shows that is to be learned; None for the dataset's own. Keys
            are those of the same environment as a task; a Box alone is "vector".
        actions: The task's flat action vector; None for the dataset's own.

    Raises:
        UserError: Minari is not installed, there is no such dataset here, its spaces
            are not those of a task, or its actions those of another one.
    """
    minari = _minari()
    try:
        dataset = minari.load_dataset(name)
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise UserError(
            f"there is no Minari dataset {name!r} here; run minari download {name}, or "
            "minari list local to see what there is"
        ) from error
    own = action_spec(dataset.action_space)
    if actions is not None and _kinds(actions) != _kinds(own):
        raise UserError(f"{name} has the actions {_kinds(own)}, this task has {_kinds(actions)}")
    specs = observations or describe_observations(dataset.observation_space), own
    found = (one for one in dataset.iterate_episodes() if len(one))
    episodes = (_checked(name, one, *specs) for one in found)
    return Opened(dataset.total_episodes, *specs, episodes)


def _kinds(actions: ActionSpec) -> str:
    """What the numbers of actions mean, in words."""
    return ", ".join(
        f"{part.size} choices from {part.start}"
        if part.kind == "categorical"
        else f"{part.size} numbers from {list(part.low)} to {list(part.high)}"
        for part in actions.parts
    )


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
    source, read = f"episode {found.id} of {name}", lambda: _transitions(found)
    return checked_episode(source, read, observations, actions, clip=True)


def _transitions(found: Any) -> Transitions:
    ended = bool(found.truncations[-1])
    return Transitions(
        found.observations, found.actions, found.rewards, ended, bool(found.terminations[-1])
    )


def _to_buffer(minari: Any, episode: Episode, spec: ActionSpec) -> Any:
    steps, last = len(episode["action"]) - 1, bool(episode["is_last"][-1])
    terminal = bool(episode["is_terminal"][-1])
    at_end = np.arange(steps) == steps - 1
    observations = {key: value for key, value in episode.items() if key not in ROW_KEYS}
    return minari.data_collector.EpisodeBuffer(
        observations=_nested(observations),
        actions=_actions(episode["action"][1:], spec),
        rewards=episode["reward"][1:],
        terminations=at_end & terminal,
        truncations=at_end & (last and not terminal),
    )


def _actions(taken: np.ndarray, spec: ActionSpec) -> Any:
    """Flat vectors ``[T, A]`` as actions of the space ``[T, ...]``, a dict of such for a Dict."""
    (part, *others) = spec.parts
    if others or part.kind == "categorical" or np.dtype(part.dtype).kind != "f":
        return _stacked([spec.decode(one) for one in taken])
    # Decoding would lose the last bits of numbers near 0.
    middle, half = middle_and_half(part)
    actions = (middle + half * taken.astype(np.float64)).reshape(len(taken), *part.shape)
    actions = actions.astype(part.dtype)
    return functools.reduce(lambda inner, key: {key: inner}, reversed(part.place), actions)


def _stacked(actions: Sequence[Any]) -> Any:
    if not isinstance(actions[0], dict):
        return np.stack(actions)
    return {key: _stacked([one[key] for one in actions]) for key in actions[0]}


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
