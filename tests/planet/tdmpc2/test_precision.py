"""A whole update in the number formats that TD-MPC2 has beside float32."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from common.command.presets import resolve
from planet.program import load_program
from tests.tiny import VECTOR, box, random_batch


@pytest.mark.parametrize("precision", ["bfloat16_products", "bfloat16"])
def test_learns(precision):
    program = load_program()
    config = resolve(
        program, ["tdmpc2", "debug"], {"world_model.precision": precision, "replay.length": 10}
    )
    agent = program.make_agent(config, VECTOR, box(2))
    state, key = jax.jit(agent.init)(jax.random.key(0)), jax.random.key(1)
    batch = random_batch(VECTOR, box(2), batch=4, time=config.replay.length)
    after, metrics, *_ = jax.jit(agent.update)(state, key, batch)
    assert all(np.isfinite(x).all() for x in metrics.values())
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, after.params, state.params)
    assert all(jax.tree.leaves(moved["dynamics"]))
