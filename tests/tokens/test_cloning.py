"""Linear controllers are cloned: two bodies, and two that only what was done tells apart."""

from __future__ import annotations

import jax
import numpy as np

from common.replay.bodies import Bodies
from common.tokens import policy as token_policy
from common.tokens.config import TDMConfig
from common.tokens.steps import pad
from tests.fitting import fit, learned_once

GAINS = {
    "plane": np.array([[0.6, -0.3], [0.2, 0.5]]),
    "line": np.array([[0.8]]),
    "mirrored": np.array([[-0.8]]),
}
"""K of the controllers a = -K x: bodies of 2 numbers and 2 actions, and twice of 1 and 1."""
CONFIG = TDMConfig(
    tokeniser="uniform", bins=32, low=(-1.0,), high=(1.0,),
    context=8, layers=2, heads=4, width=32, units=64,
)  # fmt: skip
UPDATES, BATCH, ROWS = 800, 32, CONFIG.context
BIN = 2 / CONFIG.bins
SIZES = 2, 2


def make_episode(rng, gain, rows):
    """Random states and what the controller does in them; an action leads to the next row."""
    states = rng.uniform(-1, 1, (rows, gain.shape[1]))
    return {
        "state": states.astype(np.float32),
        "action": np.pad(-states[:-1] @ gain.T, ((1, 0), (0, 0))).astype(np.float32),
        "reward": np.zeros(rows, np.float32),
        "is_first": np.arange(rows) == 0,
        "is_last": np.arange(rows) == rows - 1,
        "is_terminal": np.zeros(rows, bool),
    }


@learned_once
def cloned():
    """Returns the policy, and weights that were trained on windows of all three."""
    rng = np.random.default_rng(0)
    data = {name: [make_episode(rng, gain, 40) for _ in range(400)] for name, gain in GAINS.items()}
    windows = Bodies(data).sample(rng, UPDATES * BATCH, ROWS)
    batches = jax.tree.map(lambda x: x.reshape(UPDATES, BATCH, *x.shape[1:]), windows)
    policy = token_policy.functions(CONFIG, *SIZES)
    return policy, fit(policy.init, policy.loss, jax.random.key(0), batches, rate=1e-2)


def errors(name, seen=0, count=300):
    """Distances ``[N, A]`` from the controller in random states, acting greedily.

    Args:
        name: The controller.
        seen: Rows of the episode that went before.
        count: States, N.
    """
    rng = np.random.default_rng(7)

    def rows(name, length):
        some = [make_episode(rng, GAINS[name], length) for _ in range(count)]
        return pad({key: np.stack([x[key] for x in some]) for key in some[0]}, *SIZES)

    policy, params = cloned()
    past = rows(name, seen + 1)
    act = jax.jit(policy.act, static_argnames="greedy")
    action = np.asarray(act(params, jax.random.key(0), past, greedy=True))
    actions, numbers = GAINS[name].shape
    np.testing.assert_array_equal(action[:, actions:], 0)
    return np.abs(action[:, :actions] + past.observation[:, -1, :numbers] @ GAINS[name].T)


def test_a_controller_is_cloned_to_the_width_of_a_bin():
    """The nearest centre is a quarter of the width away on average; twice that is allowed."""
    found = errors("plane")
    assert found.mean() < 0.5 * BIN and found.max() < 2 * BIN, (found.mean(), found.max())


def test_only_the_episode_itself_tells_which_controller_it_is():
    for name in ("line", "mirrored"):
        assert np.quantile(errors(name, seen=3), 0.95) < BIN
    assert sum(errors(name).mean() for name in ("line", "mirrored")) > 10 * BIN
