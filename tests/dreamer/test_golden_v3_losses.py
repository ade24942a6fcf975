"""DreamerV3's losses in imagination against the numbers of the public code, call after call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import Normal, OneHot, TwoHot
from common.learning.normalize import (
    SpreadConfig,
    initial_spread,
    offset_and_scale,
    update_spread,
)
from dreamer.losses import actor_loss, compute_returns, critic_loss
from tests.golden_data import FOLDER_V3, assert_elementwise, assert_gradients, assert_values, load

ARRAYS = load("imag_loss", FOLDER_V3)
CALLS = 3


def time_major(x):
    """Exchanges the two leading axes."""
    return np.swapaxes(x, 0, 1)


@pytest.mark.parametrize("name", ["disc", "cont", "slowtar"])
def test_three_calls(name):
    """Of settings that are no options here, "slowtar" has its discount outside the head."""
    arrays = ARRAYS.case(name)
    get = lambda key: arrays[f"cfg.{key}"].item()  # noqa: E731
    factor = 1.0 if get("contdisc") else 1 - 1 / get("horizon")
    norm = SpreadConfig(
        method="percentiles", rate=get("retnorm.rate"), limit=get("retnorm.limit"),
        low=get("retnorm.perclo"), high=get("retnorm.perchi"), debias=get("retnorm.debias"),
    )  # fmt: skip
    spread = initial_spread()
    for call in range(CALLS):
        case = arrays.case(f"s{call}")
        reward, discount = time_major(case["in.rew"]), factor * time_major(case["in.con"])
        logits, slow_logits = (time_major(case[f"in.{key}_logits"]) for key in ("value", "slow"))
        value, slow = (TwoHot(x).mean() for x in (logits, slow_logits))
        assert_values(time_major(value), case["value"], "value")
        assert_values(time_major(slow), case["slow_value"], "slow_value")
        baseline = slow if get("slowtar") else value
        returns = compute_returns(
            reward, discount, baseline, lambda_=get("lam"), include_reward=False
        )
        assert_values(time_major(returns.target), case["ret"], "ret")
        assert_values(time_major(returns.weight) / factor, case["weight"][:, :-1], "weight")
        spread = update_spread(spread, returns.target, norm)
        scale = offset_and_scale(spread, norm)[1]
        assert_elementwise(scale, case["ret_scale"], "ret_scale")
        for key, got in (("lo", spread.first), ("hi", spread.second), ("corr", spread.weight)):
            if f"state_after.retnorm.{key}" in case:
                assert_elementwise(got, case[f"state_after.retnorm.{key}"], key)
        _check_actor(case, returns, baseline[:-1], scale, get("actent"), factor)
        _check_critic(case, returns, logits, slow[:-1], get("slowreg"), factor)


def _check_actor(case, returns, baseline, scale, entropy_scale, factor):
    discrete = "in.act.disc" in case
    action = time_major(case["in.act.disc" if discrete else "in.act.cont"])[:-1]
    names = ("disc.logits",) if discrete else ("cont.mean", "cont.stddev")
    raw = [jnp.asarray(time_major(case[f"in.policy.{key}"])) for key in names]

    def loss(raw):
        if discrete:
            policy, chosen = OneHot(raw[0][:-1]), jax.nn.one_hot(action, raw[0].shape[-1])
        else:
            mean, std = raw[0][:-1], raw[1][:-1]
            policy, chosen = Normal(jnp.tanh(mean), 0.9 * jax.nn.sigmoid(std + 2) + 0.1), action
        return actor_loss(
            policy, chosen, returns.target, baseline, returns.weight,
            gradient="reinforce", mix=0.0, entropy_scale=entropy_scale, scale=scale,
        )[0] / factor  # fmt: skip

    assert_values(time_major((returns.target - baseline) / scale), case["adv"], "adv")
    got, gradients = jax.jit(jax.value_and_grad(loss))(raw)
    assert_values(got, case["loss.policy"].mean(), "loss.policy")
    for key, gradient in zip(names, gradients, strict=True):
        assert_gradients(time_major(gradient), case[f"grad_policy.{key}"], key)


def _check_critic(case, returns, logits, slow, slow_scale, factor):
    def loss(logits):
        return critic_loss(
            TwoHot(logits[:-1]), *returns, include_start=True, slow=slow, slow_scale=slow_scale
        ) / factor  # fmt: skip

    got, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(logits))
    assert_values(got, case["loss.value"].mean(), "loss.value")
    assert_gradients(time_major(gradient), case["grad_value.value_logits"], "value_logits")
