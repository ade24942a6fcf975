"""Pictures of mazes: what is around an agent, as it sees it, and the whole, as people do."""

from __future__ import annotations

import numpy as np

TILE = 8
"""Pixels of a cell, and of the walls around it."""
VIEW, SCREEN = 64, 16
"""Height and width of what the agent sees, and the rows below of which are the television."""
_WALL, _AGENT, _GOAL, _SEEN = (40, 40, 40), (255, 255, 255), (40, 220, 60), (250, 220, 120)
_BLOCK = 4
"""Pixels of a side of what the television's pictures are made of."""
_MARGIN = VIEW


class Pictures:
    """Draws one maze. A cell is a floor of 6 x 6 pixels with walls of one pixel on its sides."""

    def __init__(self, is_open: np.ndarray, goal: tuple[int, int]):
        """Draws the maze once, of which all pictures are parts.

        Args:
            is_open: Whether the moves up, right, down and left leave a cell ``[size, size, 4]``.
            goal: Row and column of the goal.
        """
        size, self._goal = len(is_open), goal
        side = size * TILE
        floors = np.full((side, side, 3), _WALL, np.uint8)
        along = np.linspace(60, 230, size)
        for row in range(size):
            for column in range(size):
                tile = floors[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                # Both coordinates, and a checkered blue, say where one is.
                colour = along[row], along[column], 90 + 90 * ((row + column) % 2)
                up, right, down, left = is_open[row, column]
                tile[not up : TILE - (not down), 1 : TILE - 1] = colour
                tile[1 : TILE - 1, not left : TILE - (not right)] = colour
        self._whole = floors
        self._padded = np.pad(floors, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)))

    def around(self, cell: tuple[int, int], noise: np.random.Generator | None) -> np.ndarray:
        """Returns what an agent sees in a cell ``[64, 64, 3]``.

        Args:
            cell: Row and column.
            noise: Draws what the television shows; None where it is off, and black.
        """
        height = VIEW - SCREEN
        top = _MARGIN + cell[0] * TILE + TILE // 2 - height // 2
        left = _MARGIN + cell[1] * TILE + TILE // 2 - VIEW // 2
        picture = np.zeros((VIEW, VIEW, 3), np.uint8)
        picture[:height] = self._padded[top : top + height, left : left + VIEW]
        middle = slice(height // 2 - 2, height // 2 + 2), slice(VIEW // 2 - 2, VIEW // 2 + 2)
        picture[middle] = _AGENT
        if noise is not None:
            blocks = noise.integers(0, 256, (SCREEN // _BLOCK, VIEW // _BLOCK, 3), np.uint8)
            picture[height:] = blocks.repeat(_BLOCK, 0).repeat(_BLOCK, 1)
        return picture

    def whole(self, cell: tuple[int, int], visited: np.ndarray) -> np.ndarray:
        """Returns the whole maze, with the agent, the goal and the cells that were visited."""
        picture = self._whole.copy()
        for place in np.argwhere(visited):
            _mark(picture, tuple(place), _SEEN, 1)
        _mark(picture, self._goal, _GOAL, 2)
        _mark(picture, cell, _AGENT, 2)
        return picture.repeat(2, 0).repeat(2, 1)


def _mark(picture: np.ndarray, cell: tuple[int, int], colour: tuple, half: int) -> None:
    row, column = (at * TILE + TILE // 2 for at in cell)
    picture[row - half : row + half, column - half : column + half] = colour
