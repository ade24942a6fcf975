"""Atari preprocessing by hand: one emulator, frame by frame, resized in NumPy."""

from __future__ import annotations

import functools

import ale_py
import numpy as np


@functools.cache
def area_weights(out: int, size: int) -> np.ndarray:
    """Returns ``[out, size]``: the share of each input pixel in each output pixel."""
    scale = size / out
    weights = np.zeros((out, size))
    for i in range(out):
        for j in range(size):
            weights[i, j] = max(0.0, min((i + 1) * scale, j + 1) - max(i * scale, j)) / scale
    return weights


def resize_area(image: np.ndarray, size: int) -> np.ndarray:
    """Averages ``[H, W]`` or ``[H, W, 3]`` over areas to ``[size, size, channels]``."""
    image = image.reshape(*image.shape[:2], -1).astype(np.float64)
    rows, columns = area_weights(size, image.shape[0]), area_weights(size, image.shape[1])
    lines = np.einsum("ih,hwc->iwc", rows, image)  # Not "@": BLAS threads fight over few cores.
    return np.rint(np.einsum("iwc,jw->ijc", lines, columns)).astype(np.uint8)


class HandSteppedAtari:
    """``ALEInterface`` with a four-frame repeat and the maximum of the last two frames."""

    def __init__(self, rom: str, seed: int, sticky: float, size: int, grayscale: bool):
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", seed)
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.loadROM(ale_py.roms.get_rom_path(rom))
        self.actions = self.ale.getLegalActionSet()
        self.size, self.grayscale = size, grayscale

    def screen(self) -> np.ndarray:
        """Returns a copy of the emulator's screen."""
        ale = self.ale
        return (ale.getScreenGrayscale() if self.grayscale else ale.getScreenRGB()).copy()

    def reset(self, noops: int = 0) -> np.ndarray:
        """Begins an episode with a number of no-ops and returns its first image."""
        self.ale.reset_game()
        for _ in range(noops):
            self.ale.act(0)
        return resize_area(self.screen(), self.size)

    def step(self, action: int) -> tuple[np.ndarray | None, int, bool]:
        """Returns image (None on the frame after which the game is over), reward, over."""
        reward, frames = 0, []
        for _ in range(4):
            reward += self.ale.act(self.actions[action])
            if self.ale.game_over():
                return None, reward, True
            frames.append(self.screen())
        return resize_area(np.maximum(frames[2], frames[3]), self.size), reward, False
