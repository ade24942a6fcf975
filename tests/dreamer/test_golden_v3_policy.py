"""DreamerV3's acting against the numbers of the public code: four calls with resets."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from common.dynamics.rssm import RSSMState
from common.model.memory import LatentMemory
from dreamer.acting import ActNoise
from tests import golden_weights
from tests.golden_data import FOLDER_V3, assert_exact, assert_values, every_array, load
from tests.golden_v3_agent import Agent, flat_actions, play_back
from tests.golden_v3_weights import flat_rows

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
