"""No random key draws twice: numbers that should be independent would be the same."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import dreamer.agent
import planet.agent
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.spaces import ObservationSpec
from common.tokens.config import TDMConfig
from dreamer.config import ActorConfig, BehaviorConfig
from dreamer.distillation.config import DistillConfig
from dreamer.exploration.config import CuriosityConfig, EnsembleConfig, ExplorationConfig
from dreamer.exploration.memory import BONUS
from tests.tiny import MIXED, TINY, VECTOR, random_batch

KEY = jax.random.key(0)
IMAGES = {"image": ObservationSpec((32, 32, 1), "image"), **VECTOR}
MODEL = dataclasses.replace(TINY, kl=dataclasses.replace(TINY.kl, overshooting=1))
PLANET = planet.agent.Config(
    world_model=MODEL,
    tdm=TDMConfig(bins=8, context=2, layers=1, heads=1, width=8, units=8, decode="sample"),
    jitter=0.1,
    planner=PlannerConfig(horizon=3, iterations=2, candidates=6, top=2, random_walk=3),
)
DREAMER = dreamer.agent.Config(
    world_model=MODEL,
    actor=ActorConfig(layers=1, units=8),
    critic=HeadConfig(layers=1, units=8),
    behavior=BehaviorConfig(horizon=3, exploration_noise=0.3),
)
CURIOUS = dataclasses.replace(
    DREAMER,
    exploration=ExplorationConfig(
        method="curiosity", curiosity=CuriosityConfig(steps=1, gap=1, slots=2, layers=1, units=8)
    ),
)
AGENTS = {
    "planet": (planet.agent.make_agent, PLANET, IMAGES),
    "planet with tokens": (
        planet.agent.make_agent, dataclasses.replace(PLANET, model="tdm"), VECTOR
    ),
    "dreamer": (dreamer.agent.make_agent, DREAMER, VECTOR),
    "dreamer that is curious": (dreamer.agent.make_agent, CURIOUS, VECTOR),
    "dreamer that is careful": (
        dreamer.agent.make_agent,
        dataclasses.replace(
            DREAMER,
            behavior=dataclasses.replace(DREAMER.behavior, penalty=1.0),
            exploration=ExplorationConfig(
                ensemble=EnsembleConfig(members=2, layers=1, units=8)
            ),
        ),
        VECTOR,
    ),
    "dreamer with a small actor": (
        dreamer.agent.make_agent,
        dataclasses.replace(DREAMER, distill=DistillConfig(kind="gru", units=8)),
        VECTOR,
    ),
}  # fmt: skip


def check(function, *args):
    """Traces a function while JAX follows every key; nothing is compiled."""
    with jax.debug_key_reuse(True):
        return jax.eval_shape(jax.jit(lambda *args: function(*args)), *args)


@pytest.mark.parametrize("amount", [1, 2])
def test_a_key_that_draws_twice_is_found(amount):
    """Where there are fewer keys than are used, JAX takes the last one again."""

    def draw(key):
        keys = jax.random.split(key, amount)
        return jax.random.normal(keys[0]) + jax.random.normal(keys[1])

    if amount == 2:
        check(draw, KEY)
    else:
        with pytest.raises(jax.errors.KeyReuseError):
            check(draw, KEY)


@pytest.mark.parametrize("name", AGENTS)
def test_agents_draw_once_with_every_key(name):
    make_agent, config, specs = AGENTS[name]
    agent, batch = make_agent(config, specs, MIXED), random_batch(specs, MIXED)
    if agent.latents:
        batch[BONUS] = np.ones((*batch["reward"].shape, 2), np.float32)
    state = check(agent.init, KEY)
    check(agent.update, state, KEY, batch)
    rows = {key: batch[key][:, 0] for key in (*specs, "is_first", "is_last")}
    carry = jax.eval_shape(lambda: agent.initial_carry(2))
    check(lambda *args: agent.act(*args, rows, "train"), agent.params(state), KEY, carry)
