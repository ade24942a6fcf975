"""Mazes to explore, task ``maze_goal``: with a distant goal, and a noisy television if wanted.

    dreamer train --configs maze --env.kwargs.size 8

A maze is ``size`` x ``size`` cells and the walls between them. It begins as a tree that a random
depth-first search draws, so that every cell is reached by exactly one way, and then a share of the
walls that are left is taken away. The start is a corner and the goal the cell that is most steps
away, at least ``2 (size - 1)``, because the opposite corner is. Only the goal rewards, by 1, and it
ends the episode.

The television (after Savinov et al., arXiv:1810.02274, and Burda et al., arXiv:1808.04355) is an
action more: whoever watches stays where they are and sees a random picture, another one at every
step. After all other actions it is off, and black. Nothing can be learned from it.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np

from common.checks import check_flag, check_range, check_whole
from common.envs.maze_pictures import Pictures
from common.rows import LOG_PREFIX

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Up, right, down and left, the first four actions, as steps of row and column."""
WATCH = len(MOVES)
"""The action that switches the television on for one step, where there is one."""
NOISE = 8
"""Random numbers that the television shows to who sees vectors."""
EPISODE, LIFETIME, GOAL, WATCHED = (
    LOG_PREFIX + name for name in ("coverage_episode", "coverage_lifetime", "goal", "watched")
)
"""Entries of the log. Summed over the rows of an episode they are what they say at its end."""
VISITS = LOG_PREFIX + "visits/"
"""Begins the entries that count the visits of a cell, by row and column, ``visits/3_7``."""


class Layout:
    """The walls of one maze.

    Attributes:
        size: Cells of a side.
        open: Whether a move leaves a cell, by row, column and move ``[size, size, 4]``.
        start: Row and column of the start.
        goal: Row and column of the goal.
        distance: Steps from the start to every cell ``[size, size]``.
    """

    def __init__(self, size: int, loops: float, rng: np.random.Generator):
        """Draws a maze.

        Args:
            size: Cells of a side.
            loops: Share of the walls between cells that is taken away from the tree.
            rng: Draws.
        """
        self.size, self.start = size, (0, 0)
        self.open = np.zeros((size, size, len(MOVES)), bool)
        self._draw_tree(rng)
        for row, column, move in np.argwhere(~self.open[..., 1:3]):
            cell = int(row), int(column)
            if self._inside(cell, int(move) + 1) and rng.random() < loops:
                self._connect(cell, int(move) + 1)
        self.distance = self._distances()
        self.goal = tuple(map(int, np.unravel_index(self.distance.argmax(), (size, size))))

    def after(self, cell: tuple[int, int], move: int) -> tuple[int, int]:
        """Returns the cell that a move leads to; the same one where there is a wall."""
        if not self.open[(*cell, move)]:
            return cell
        return cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]

    def _draw_tree(self, rng: np.random.Generator) -> None:
        path, seen = [self.start], {self.start}
        while path:
            moves = [
                move for move in range(len(MOVES))
                if self._inside(path[-1], move) and self._neighbour(path[-1], move) not in seen
            ]  # fmt: skip
            if not moves:
                path.pop()
                continue
            move = moves[rng.integers(len(moves))]
            self._connect(path[-1], move)
            path.append(self._neighbour(path[-1], move))
            seen.add(path[-1])

    def _distances(self) -> np.ndarray:
        distance = np.full((self.size, self.size), -1)
        distance[self.start], waiting = 0, [self.start]
        for cell in waiting:
            for move in range(len(MOVES)):
                other = self.after(cell, move)
                if distance[other] < 0:
                    distance[other] = distance[cell] + 1
                    waiting.append(other)
        return distance

    def _neighbour(self, cell: tuple[int, int], move: int) -> tuple[int, int]:
        return cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]

    def _inside(self, cell: tuple[int, int], move: int) -> bool:
        return all(0 <= at < self.size for at in self._neighbour(cell, move))

    def _connect(self, cell: tuple[int, int], move: int) -> None:
        self.open[(*cell, move)] = True
        self.open[(*self._neighbour(cell, move), (move + 2) % len(MOVES))] = True


class Maze(gymnasium.Env):
    """A maze as a Gymnasium environment.

    Its actions are up, right, down, left and, with a television, to watch it. Observations are
    vectors: row and column from -1 to 1, four numbers that are 1 where a move is open, and what
    the television shows. Or pictures of 64 x 64 pixels: what is around the agent, each floor in a
    colour of its own, and the television below.

    ``info`` holds for the log, so that sums over an episode say it: the share of the cells that
    were visited in this episode and, of one layout, ever in this environment; whether the goal was
    found; steps before the television; and on demand the visits of every cell.

    Args:
        size: Cells of a side.
        layout: Seed of the maze.
        fresh: Whether every episode has a maze of its own, by the environment's seed.
        loops: Share of the walls between cells that is taken away.
        pixels: Whether observations are pictures.
        television: Whether there is a noisy television.
        visits: Whether visits of every cell are logged, for heat maps.
        render_mode: "rgb_array" or None; both draw.

    Raises:
        UserError: A value is out of range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(
        self,
        size: int = 8,
        layout: int = 0,
        fresh: bool = False,
        loops: float = 0.05,
        pixels: bool = False,
        television: bool = False,
        visits: bool = False,
        render_mode: Literal["rgb_array"] | None = "rgb_array",
    ):
        check_whole("env.kwargs.size", size, 2, 64)
        check_range("env.kwargs.loops", loops, 0, 1)
        check_whole("env.kwargs.layout", layout, 0)
        flags = {"fresh": fresh, "pixels": pixels, "television": television, "visits": visits}
        for name, value in flags.items():
            check_flag(f"env.kwargs.{name}", value)
        self.render_mode, self._visits = render_mode, visits
        self._size, self._fresh, self._loops = size, fresh, loops
        self._pixels, self._television = pixels, television
        self.action_space = gymnasium.spaces.Discrete(len(MOVES) + television)
        self.action_names = ("up", "right", "down", "left", "watch")[: self.action_space.n]
        if pixels:
            self.observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        else:
            entries = 2 + len(MOVES) + NOISE * television
            self.observation_space = gymnasium.spaces.Box(-1, 1, (entries,), np.float32)
        self._ever = np.zeros((size, size), bool)
        self._now = np.zeros((size, size), bool)
        self._take(np.random.default_rng(layout))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Begins an episode at the start."""
        super().reset(seed=seed, options=options)
        if self._fresh:
            self._take(self.np_random)
        self.cell, self._watching = self.layout.start, False
        self._now[:] = False
        # What was there before this episode, so that the sum over it ends with what is there then.
        info = {EPISODE: 0.0} if self._fresh else {EPISODE: 0.0, LIFETIME: float(self._ever.mean())}
        return self._observe(), self._visit(info)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, float]]:
        """Moves, or watches television."""
        self._watching = action == WATCH
        if not self._watching:
            self.cell = self.layout.after(self.cell, int(action))
        found = self.cell == self.layout.goal
        info = self._visit({GOAL: float(found)})
        if self._television:
            info[WATCHED] = float(self._watching)
        return self._observe(), float(found), found, False, info

    def render(self) -> np.ndarray:
        """Draws the whole maze, with the agent, the goal and what was visited."""
        return self._pictures.whole(self.cell, self._now)

    def _take(self, rng: np.random.Generator) -> None:
        self.layout = Layout(self._size, self._loops, rng)
        self._pictures = Pictures(self.layout.open, self.layout.goal)
        places = 2 * np.indices((self._size, self._size)) / (self._size - 1) - 1
        self._vectors = np.concatenate([np.moveaxis(places, 0, -1), self.layout.open], -1)

    def _visit(self, info: dict[str, float]) -> dict[str, float]:
        """Counts the agent's cell, and adds to ``info`` what that changes."""
        share = 1 / self._now.size
        info[EPISODE] = info.get(EPISODE, 0.0) + share * (not self._now[self.cell])
        if not self._fresh:
            info[LIFETIME] = info.get(LIFETIME, 0.0) + share * (not self._ever[self.cell])
        self._now[self.cell] = self._ever[self.cell] = True
        if self._visits:
            info[VISITS + "{}_{}".format(*self.cell)] = 1.0
        return info

    def _observe(self) -> np.ndarray:
        if self._pixels:
            noise = self.np_random if self._watching else None
            return self._pictures.around(self.cell, noise)
        vector = np.zeros(self.observation_space.shape, np.float32)
        seen = self._vectors[self.cell]
        vector[: len(seen)] = seen
        if self._watching:
            vector[len(seen) :] = self.np_random.uniform(-1, 1, NOISE)
        return vector
