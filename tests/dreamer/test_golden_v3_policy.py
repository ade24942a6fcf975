"""DreamerV3's policy against the numbers of the public code: its normal, and acting with resets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import Normal
from common.dynamics.rssm import RSSMState
from common.model.memory import LatentMemory
from common.nets.heads import HeadConfig
from dreamer.acting import ActNoise
from dreamer.config import ActorConfig
from dreamer.networks import make_networks
from tests import golden_weights
from tests.golden_data import (
    FOLDER_V3,
    assert_elementwise,
    assert_exact,
    assert_values,
    every_array,
    load,
)
from tests.golden_v3_agent import Agent, flat_actions, play_back
from tests.golden_v3_weights import flat_rows
from tests.tiny import box

ARRAYS = load("policy", FOLDER_V3)
CASES = sorted({name.split(".")[0] for name in ARRAYS})
UNREAD = ("in.obs.reward", "in.obs.is_last", "in.obs.is_terminal")
"""What a policy is given and never looks at."""


@pytest.mark.parametrize("case", CASES)
def test_acting(case, monkeypatch):
    play_back(monkeypatch)
    with every_array(ARRAYS.case(case)) as g:
        assert all(name in g for name in UNREAD)
        g.used |= set(UNREAD)
        stoch = g["start.in.carry.stoch"]
        agent = Agent(g, golden_weights.weights(g, "in.obs"), stoch)
        acting = agent.dreamer.acting
        params = {name: agent.params[name] for name in ("world_model", "actor")}
        act = jax.jit(acting.act_with_noise, static_argnames="mode")
        given = golden_weights.weights(g, "start.in.carry.prevact")
        start = LatentMemory(
            RSSMState(g["start.in.carry.deter"], stoch), flat_actions(agent.actions, given)
        )
        zeros = acting.initial_carry(len(stoch))
        for name, mode, noise, carry in (
            ("train", "train", "train", zeros),
            ("eval", "eval", "train", zeros),
            ("start", "train", "start", start),
        ):
            _check_calls(agent, act, params, carry, name, noise, mode, g)


def _check_calls(agent, act, params, carry, name, noise, mode, g):
    rows = flat_rows(agent.specs, golden_weights.weights(g, "in.obs"))
    rows["is_first"] = g["in.obs.is_first"]
    if name == "start":  # The same observations without the first call's reset.
        rows["is_first"] = np.concatenate(
            [np.zeros_like(rows["is_first"][:1]), rows["is_first"][1:]]
        )
    gumbel = g[f"{noise}.in.gumbel"]
    keys = [part.path[0] for part in agent.actions.parts]
    normal = np.concatenate([g[f"{noise}.in.act_noise.{key}"] for key in keys], -1)
    want = flat_actions(agent.actions, {key: g[f"{name}.action.{key}"] for key in keys})
    for call in range(len(gumbel)):
        now = {key: x[call] for key, x in rows.items()}
        drawn = ActNoise(gumbel[call], normal[call], None)
        action, carry = act(params, drawn, carry, now, mode=mode)
        assert_values(carry.state.deter, g[f"{name}.deter"][call], f"{name} {call} deter")
        assert_exact(carry.state.stoch, g[f"{name}.stoch"][call], f"{name} {call} stoch")
        assert_values(action, want[call], f"{name} {call} action")


DISTRIBUTIONS = load("dists", FOLDER_V3)


@pytest.mark.parametrize("name", ["bounded_normal0", "bounded_normal1"])
def test_bounded_normal(name):
    """What the actor makes of raw outputs, which here are its features."""
    with every_array(DISTRIBUTIONS.case(name)) as g:
        low, high = (float(g[f"cfg.{bound}std"]) for bound in ("min", "max"))
        config = ActorConfig(
            layers=0, continuous="bounded_normal", init_std=2.0, min_std=low, max_std=high
        )
        size = g["in.raw_mean"].shape[-1]
        networks = make_networks(config, HeadConfig(layers=0), box(size))
        eye, none = np.eye(size, dtype=np.float32), np.zeros((size, size), np.float32)
        bias = np.zeros(size, np.float32)
        params = {
            "actor/out": {"kernel": np.concatenate([eye, none]), "bias": bias},
            "actor/std": {"kernel": np.concatenate([none, eye]), "bias": bias},
        }

        def normal(mean, std):
            (part,) = networks.policy(params, jnp.concatenate([mean, std], -1)).parts
            return part

        raw = g["in.raw_mean"], g["in.raw_std"]
        part = normal(*raw)
        got = {
            "mean": part.loc, "std": part.std, "mode": part.mode(), "entropy": part.entropy(),
            "sample": part.sample(g["in.eps"]), "logp": part.log_prob(g["in.event"]),
        }  # fmt: skip
        for bound, std in (("min", low), ("max", high)):
            ends = Normal(part.loc[..., None], np.full((*part.loc.shape, 1), std, np.float32))
            got[f"{bound}_entropy"] = ends.entropy()
        log_prob = lambda *raw: normal(*raw).log_prob(g["in.event"]).sum()  # noqa: E731
        got["grad_logp_mean"], got["grad_logp_std"] = jax.grad(log_prob, (0, 1))(*raw)
        got["grad_entropy_std"] = jax.grad(lambda *raw: normal(*raw).entropy().sum(), 1)(*raw)
        for key, value in got.items():
            assert_elementwise(value, g[key], key)
