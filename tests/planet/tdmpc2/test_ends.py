"""Episodes that end: which windows show an end, and what values make of it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.command.presets import resolve
from common.replay import Replay
from common.replay.config import ReplayConfig
from common.spaces import ObservationSpec
from planet.program import load_program
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.learn import Learner
from planet.tdmpc2.networks import make_networks
from tests.tiny import box

STEPS, DISCOUNT, HORIZON = 6, 0.9, 3
SPECS = {
    "x": ((STEPS,), np.float32),
    "action": ((1,), np.float32),
    "reward": ((), np.float32),
    "is_first": ((), bool),
    "is_last": ((), bool),
    "is_terminal": ((), bool),
}


def walks(sampling: str, episodes: int = 40) -> Replay:
    """Episodes of six steps along a line, each worth 1, the last of which ends it."""
    config = ReplayConfig(capacity=10_000, length=HORIZON + 1, sampling=sampling)
    replay, rng = Replay(config, None, SPECS, 1, seed=0), np.random.default_rng(0)
    for row in range(episodes * (STEPS + 1)):
        place = row % (STEPS + 1)
        end = place == STEPS
        rows = {"x": np.eye(STEPS, dtype=np.float32)[place % STEPS], "reward": place > 0}
        rows |= {"action": rng.uniform(-1, 1, 1), "is_first": place == 0}
        rows |= {"is_last": end, "is_terminal": end}
        replay.add({key: np.asarray(rows[key], SPECS[key][1])[None] for key in SPECS})
    return replay


@pytest.mark.parametrize(
    ("task", "sampling"),
    [
        ("gym_Hopper-v5", "steps"),
        ("gym_CartPole-v1", "steps"),
        ("tests.envs.toys:Counter", "steps"),
        ("atari_pong", "steps"),
        ("dmc_walker_walk", "episodes"),
    ],
)
@pytest.mark.parametrize("preset", ["tdmpc2", "tdmpc2_cpu"])
def test_windows_of_tasks_that_end_reach_beyond_the_end(preset, task, sampling):
    config = resolve(load_program(), [preset], {"task": task, "tdmpc2.discount": 0.9})
    assert config.replay.sampling == sampling


@pytest.mark.parametrize(("sampling", "depths"), [("steps", 3), ("episodes", 1)])
def test_an_end_is_seen_after_any_number_of_imagined_steps(sampling, depths):
    """Within an episode it can but be the last step of a window, two imagined steps on."""
    batch = walks(sampling).sample(512, HORIZON + 1)
    within = np.cumprod(~batch["is_first"][:, 1:], 1)
    seen = (batch["is_terminal"][:, 1:] * within).sum(0)
    assert (seen > 20).sum() == depths and seen[-1] > 20


@pytest.fixture(scope="module")
def learned():
    """By the rule of windows, values of the six places after 700 updates."""
    config = TDMPC2Config(
        encoder_units=32, units=32, latent=16, num_q=2, dropout=0.0, terminations=True, tau=0.05
    )
    config = dataclasses.replace(config, model_opt=dataclasses.replace(config.model_opt, lr=2e-3))
    specs = {"x": ObservationSpec((STEPS,), "vector")}
    networks = make_networks(config, specs, box(1))
    learner = Learner(networks, config, DISCOUNT, 1)
    update = jax.jit(learner.update)

    @jax.jit
    def values(params):
        z = networks.encode(params, {"x": jnp.eye(STEPS)})
        return networks.q(params, z, jnp.zeros((STEPS, 1))).mean().mean(0)

    def learn(sampling):
        state, replay = jax.jit(learner.init)(jax.random.key(0)), walks(sampling)
        for number in range(700):
            batch = replay.sample(64, HORIZON + 1)
            state, _ = update(state, jax.random.key(number), batch)
        return values(state.params)

    return learn


def test_values_of_what_was_seen_know_the_end(learned):
    want = [sum(DISCOUNT**k for k in range(STEPS - place)) for place in range(STEPS)]
    np.testing.assert_allclose(learned("steps"), want, rtol=0.05)


def test_values_know_no_end_by_windows_that_stop_there(learned):
    """What the public code's rule does, and why no task that ends has it here."""
    assert learned("episodes")[-1] > 4
