"""Atari 2600 games by ale-py's native vector environment."""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np

from common.envs.base import adapted_space, check_actions, env_seed
from common.envs.config import EnvConfig
from common.errors import UserError, nearest
from common.spaces import ObservationSpec, action_spec

FRAME_LIMIT = 108_000
VIDEO_SCALE = 3


def atari_options(config: EnvConfig, num_envs: int) -> dict[str, Any]:
    """Returns every option of ``ale_py.AtariVectorEnv``, whose defaults are not ours.

    This is the protocol of Machado et al. (2018) as DreamerV2 uses it: sticky actions,
    the full action set, no life information, raw rewards and 108,000 frames per
    episode (27,000 agent steps), after which an episode is cut, not terminal.
    """
    return dict(
        num_envs=num_envs,
        batch_size=num_envs,
        num_threads=min(num_envs, os.cpu_count() or 1),
        thread_affinity_offset=-1,
        max_num_frames_per_episode=config.time_limit or FRAME_LIMIT,
        repeat_action_probability=config.sticky,
        full_action_space=config.all_actions,
        continuous=False,
        continuous_action_threshold=0.5,
        autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP,
        img_height=config.image_size,
        img_width=config.image_size,
        grayscale=config.grayscale,
        stack_num=1,
        frameskip=config.action_repeat if config.action_repeat > 0 else 4,
        maxpool=True,
        noop_max=config.noops + 1,  # ale-py draws from 0 to noop_max - 1.
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=False,
    )


class AtariEnvs:
    """``N`` copies of one game; the key "image" is ``[N, size, size, 1 or 3]``.

    Frames are the maximum over the last two of each action repeat, resized by area.
    The emulators run in threads of their own between ``step_async`` and ``step_wait``.

    Args:
        rom: Name of the game as ale-py writes it, "up_n_down" for instance.
        config: ``sticky``, ``all_actions``, ``noops``, ``grayscale``, ``image_size``,
            ``action_repeat`` (4 unless positive) and ``time_limit`` apply.
        seed: Seed from which each copy's own is derived.
        num_envs: N.

    Attributes:
        action_names: What the emulator calls its 18 actions; () where a game has fewer.

    Raises:
        UserError: The game is unknown, or ale-py is not installed.
    """

    def __init__(self, rom: str, config: EnvConfig, seed: int, num_envs: int):
        options = atari_options(config, num_envs)
        self._env: Any = _ale().AtariVectorEnv(find_rom(rom), **options)
        self.num_envs, self.action_repeat = num_envs, options["frameskip"]
        self.max_steps = -(-options["max_num_frames_per_episode"] // self.action_repeat)
        channels = 1 if config.grayscale else 3
        shape = (config.image_size, config.image_size, channels)
        self.observation_specs = {"image": ObservationSpec(shape, "image")}
        self.observation_space = adapted_space(self.observation_specs)
        self.action_space = self._env.single_action_space
        self.action_spec = action_spec(self.action_space)
        names = [one.name.lower() for one in _ale().Action]
        self.action_names = tuple(names) if config.all_actions else ()
        self._seeds = np.array([env_seed(seed, index) for index in range(num_envs)])
        self._over = np.ones(num_envs, bool)
        self._started = False
        self._images: np.ndarray | None = None

    def step_async(self, action: np.ndarray) -> None:
        """Hands the one-hot actions ``[N, A]`` over; the first call begins all episodes."""
        action = check_actions(action, self.num_envs, self.action_spec.size)
        if self._started:
            self._env.send(action.argmax(-1))

    def step_wait(self) -> dict[str, np.ndarray]:
        """Returns the rows of the actions that were handed over."""
        if self._started:
            image, reward, terminated, truncated, _ = self._env.recv()
        else:
            image, _ = self._env.reset(seed=self._seeds)
            reward = np.zeros(self.num_envs)
            terminated = truncated = np.zeros(self.num_envs, bool)
            self._started = True
        first, self._over = self._over, terminated | truncated
        shape = self.observation_specs["image"].shape
        self._images = np.array(image).reshape(self.num_envs, *shape)
        return {
            "image": self._images,
            "reward": np.where(first, 0, reward).astype(np.float32),
            "is_first": first,
            "is_last": self._over,
            "is_terminal": np.array(terminated),
        }

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """``step_async`` and ``step_wait`` in one call."""
        self.step_async(action)
        return self.step_wait()

    def render(self, index: int = 0) -> np.ndarray | None:
        """Returns one environment's image enlarged, ``[3 size, 3 size, 3]``."""
        if self._images is None:
            return None
        large = self._images[index].repeat(VIDEO_SCALE, 0).repeat(VIDEO_SCALE, 1)
        return np.broadcast_to(large, (*large.shape[:2], 3)).copy()

    def close(self) -> None:
        """Ends the emulators' threads."""
        if self._env is not None:
            self._env.close()
            self._env = None  # The threads end with the object.


def find_rom(name: str) -> str:
    """Returns ale-py's name of a game; underscores and capitals may differ.

    Raises:
        UserError: The game is unknown.
    """
    roms = rom_names()
    plain = {rom.replace("_", ""): rom for rom in roms}
    found = plain.get(name.replace("_", "").lower())
    if found is None:
        tasks = [f"atari_{rom}" for rom in roms]
        raise UserError(f"unknown task 'atari_{name}'{nearest(f'atari_{name}', tasks)}")
    return found


def rom_names() -> list[str]:
    """Returns ale-py's names of all its games."""
    return _ale().roms.get_all_rom_ids()


def _ale() -> Any:
    try:
        import ale_py
    except ImportError as error:
        raise UserError(f"ale-py does not load ({error}); run pip install ale-py") from error
    return ale_py
