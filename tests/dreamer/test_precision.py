"""Dreamer in number formats other than float32."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nets.heads import HeadConfig
from dreamer.agent import make_agent
from dreamer.config import ActorConfig, BehaviorConfig, Config
from dreamer.networks import make_networks
from tests.tiny import MIXED, TINY, VECTOR, choice, random_batch, random_params

CONFIG = Config(
    world_model=TINY,
    actor=ActorConfig(layers=1, units=8),
    critic=HeadConfig(layers=1, units=8),
    behavior=BehaviorConfig(horizon=3),
)


@pytest.mark.parametrize("continuous", ["trunc_normal", "tanh_normal", "bounded_normal"])
def test_policy_and_value_compute_in_bfloat16_and_answer_in_float32(continuous):
    """Their distributions are made of float32, so that densities and bounds keep their tails."""
    config, feature = dataclasses.replace(CONFIG.actor, continuous=continuous), jnp.ones((4, 20))
    exact = make_networks(config, CONFIG.critic, MIXED)
    params = random_params(lambda key: exact.init(key, feature))
    half = make_networks(config, CONFIG.critic, MIXED, "bfloat16")
    for name, part in (("policy", params["actor"]), ("value", params["critic"])):
        wanted, found = (getattr(x, name)(part, feature) for x in (exact, half))
        leaves = jax.tree.leaves(found)
        assert {x.dtype for x in leaves} == {jnp.dtype(jnp.float32)}
        pairs = list(zip(leaves, jax.tree.leaves(wanted), strict=True))
        assert any((x != y).any() for x, y in pairs)
        for x, y in pairs:
            np.testing.assert_allclose(x, y, rtol=0.05, atol=0.05)
        low = str(jax.make_jaxpr(getattr(half, name))(part, feature))
        assert "preferred_element_type=bfloat16" in low


def test_policy_and_value_round_what_they_multiply():
    feature = jnp.asarray(np.random.default_rng(0).normal(size=(4, 20)), jnp.float32)
    exact = make_networks(CONFIG.actor, CONFIG.critic, MIXED)
    params = random_params(lambda key: exact.init(key, feature))
    rounding = make_networks(CONFIG.actor, CONFIG.critic, MIXED, "bfloat16_products")
    for name, part in (("policy", params["actor"]), ("value", params["critic"])):
        wanted, found = (getattr(x, name)(part, feature) for x in (exact, rounding))
        pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True))
        assert any((x != y).any() for x, y in pairs)
        for x, y in pairs:
            assert x.dtype == jnp.float32
            np.testing.assert_allclose(x, y, rtol=0.02, atol=0.02)


def update_of(precision):
    """The agent, a state's shapes, and its update traced."""
    model = dataclasses.replace(TINY, precision=precision)
    agent = make_agent(dataclasses.replace(CONFIG, world_model=model), VECTOR, choice(3))
    state = jax.eval_shape(agent.init, jax.random.key(0))
    batch = random_batch(VECTOR, choice(3))
    return state, jax.jit(agent.update).trace(state, jax.random.key(0), batch)


@pytest.mark.parametrize("precision", ["bfloat16", "bfloat16_products"])
def test_an_update_returns_float32(precision):
    state, traced = update_of(precision)
    after, metrics = traced.out_info
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert {str(value.dtype) for value in metrics.values()} <= {"float32", "int32"}


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_all_products_of_an_update_are_rounded_but_the_samplers(platform):
    """Those sum probabilities. Entry by entry nothing is computed in bfloat16."""
    texts = [
        update_of(precision)[1].lower(lowering_platforms=(platform,)).as_text()
        for precision in ("float32", "bfloat16_products")
    ]
    exact, rounded = (
        [line for line in text.splitlines() if "dot_general" in line] for text in texts
    )
    assert not any("bf16" in line for line in exact)
    low = [line for line in rounded if line.count("xbf16>") == 2 and line.endswith("xf32>")]
    others = [line for line in rounded if line not in low]
    assert len(low) > 40 and others and all("HIGHEST" in line for line in others)
    arithmetic = r"stablehlo\.(add|subtract|multiply|divide|maximum|minimum|exp|log|tanh|reduce)"
    assert not [x for x in texts[1].splitlines() if "bf16" in x and re.search(arithmetic, x)]
