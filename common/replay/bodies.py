"""Windows of episodes of several bodies, padded to the largest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from common.errors import UserError
from common.replay.episodes import Episode
from common.replay.foreign import check_episode
from common.rows import FLAGS
from common.tokens.steps import Steps, vector_keys


class Bodies:
    """All episodes in one table of rows, from which windows are gathered.

    The table pads every row to the sizes of the largest body, so that it takes
    4 (D + A + 1) bytes for each row of any body.

    Attributes:
        names: Of the bodies, in the order of their numbers.
        observation_size: Observation entries of the largest body, D.
        action_size: Action entries of the largest body, A.
        rows: Rows of all episodes.
    """

    def __init__(self, episodes: Mapping[str, Sequence[Episode]]):
        """Copies the episodes of every body.

        Args:
            episodes: Lists of episodes by the names of the bodies.

        Raises:
            UserError: There are no episodes, or a body has pictures, or its episodes differ or
                hold what cannot be learned from.
        """
        if empty := sorted(name for name, some in episodes.items() if not some):
            raise UserError(f"no episodes of {empty[0]}; collect some, or leave it out")
        if not episodes:
            raise UserError("no episodes of any body; collect some first")
        self.names = tuple(episodes)
        sizes = np.array([_sizes(name, some[0]) for name, some in episodes.items()])
        self.observation_size, self.action_size = (int(size) for size in sizes.max(0))
        self._has_observation, self._has_action = (
            np.arange(most) < size[:, None]
            for size, most in zip(sizes.T, sizes.max(0), strict=True)
        )
        every = [one for name, some in episodes.items() for one in _checked(name, some)]
        self._lengths = np.array([len(episode["is_first"]) for episode in every])
        # Episodes of body b are numbers limits[b] to limits[b + 1] - 1.
        self._limits = np.cumsum([0, *map(len, episodes.values())])
        self.rows = int(self._lengths.sum())
        # Row 0 is what short windows are filled up with.
        self._begins = 1 + np.cumsum(self._lengths) - self._lengths
        self._observation = np.zeros((self.rows + 1, self.observation_size), np.float32)
        self._action = np.zeros((self.rows + 1, self.action_size), np.float32)
        self._reward = np.zeros(self.rows + 1, np.float32)
        for begin, episode in zip(self._begins, every, strict=True):
            place = slice(begin, begin + len(episode["is_first"]))
            vector = np.concatenate(
                [episode[key].reshape(place.stop - begin, -1) for key in vector_keys(episode)], 1
            )
            self._observation[place, : vector.shape[1]] = vector
            self._action[place, : episode["action"].shape[1]] = episode["action"]
            self._reward[place] = episode["reward"]

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Steps:
        """Draws windows: a body, then one of all windows of its episodes, both uniformly.

        An episode that is shorter than the window gives one window, with rows of zeros in
        front. ``is_first`` marks every such row, and the window's first row of an episode:
        so no model predicts a row from one that did not lead to it.

        Args:
            rng: Where randomness comes from.
            batch: Windows, B.
            length: Rows of each, T.

        Returns:
            Arrays of NumPy ``[B, T, ...]``.
        """
        body = rng.integers(len(self.names), size=batch)
        # Windows of episode e are numbers windows[e] to windows[e + 1] - 1.
        windows = np.insert(np.cumsum(np.maximum(self._lengths - length + 1, 1)), 0, 0)
        limits = windows[self._limits]
        drawn = rng.integers(limits[body], limits[body + 1])
        episode = np.searchsorted(windows, drawn, side="right") - 1
        begin = self._begins[episode] + drawn - windows[episode]
        # Columns of a window: nothing, then the episode.
        column = np.arange(length)
        first = length - np.minimum(self._lengths[episode], length)[:, None]
        index = np.where(column >= first, begin[:, None] + column - first, 0)
        return Steps(
            self._observation[index],
            self._action[index],
            self._reward[index],
            column <= first,
            self._has_observation[body],
            self._has_action[body],
        )


def _checked(name: str, episodes: Sequence[Episode]) -> Iterator[Episode]:
    """The episodes of a body, if they are like its first one and hold numbers alone."""
    specs = {key: (episodes[0][key].shape[1:], np.float32) for key in vector_keys(episodes[0])}
    specs |= {"action": (episodes[0]["action"].shape[1:], np.float32), "reward": ((), np.float32)}
    specs |= {key: ((), bool) for key in FLAGS}
    for number, episode in enumerate(episodes):
        exact = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in episode.items()}
        yield check_episode(exact, specs, f"episode {number} of {name}")


def _sizes(name: str, episode: Episode) -> tuple[int, int]:
    """Observation and action entries of a body."""
    keys = vector_keys(episode)
    if not keys:
        raise UserError(f"episodes of {name} have no observations; they cannot be learned from")
    for key in keys:
        if episode[key].dtype == np.uint8:
            raise UserError(
                f"episodes of {name} have pictures, {key!r}; collect them with vectors only"
            )
    return sum(int(np.prod(episode[key].shape[1:])) for key in keys), episode["action"].shape[1]
