"""DreamerV3's losses of actor and critic against the numbers of the public code, call after call.

Networks are replaced by the recorded outputs: a feature is what the critic, the slow critic and
the policy say of it, side by side.
"""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import Joint, Normal, OneHot, TwoHot
from common.learning.normalize import offset_and_scale
from common.model.imagine import Trajectory
from dreamer.behavior import Behavior, Imagined
from dreamer.config import BehaviorConfig, ReplayValueConfig
from dreamer.learn import slow_copy
from dreamer.losses import replay_returns
from dreamer.networks import Networks
from tests.golden_data import (
    FOLDER_V3,
    assert_elementwise,
    assert_gradients,
    assert_values,
    every_array,
    load,
)
from tests.golden_v3_agent import spread

IMAGINED, REPLAYED = load("imag_loss", FOLDER_V3), load("repl_loss", FOLDER_V3)
CALLS = ("s0", "s1", "s2")
NORMS = {"return": "retnorm", "value": "valnorm", "advantage": "advnorm"}
PARTS = {"mean_std": ("mean", "sqrs"), "percentiles": ("lo", "hi")}


def cases(arrays):
    """First parts of the names; bins stand beside them."""
    return sorted({name.split(".")[0] for name in arrays if "." in name})


def time_major(x):
    """Exchanges the two leading axes."""
    return jnp.swapaxes(jnp.asarray(x), 0, 1)


def make_behavior(g, settings, continuous=False, **options):
    """The behaviour with recorded settings, of critics and policies that are given."""
    model = types.SimpleNamespace(
        config=types.SimpleNamespace(
            soft_discount="cfg.contdisc" not in g or bool(g["cfg.contdisc"]),
            discount_factor=1 - 1 / int(g["cfg.horizon"]),
        ),
        actions=types.SimpleNamespace(discrete=not continuous),
        cost=None,
    )
    bins = settings["bins"]

    def value(critic, feature):
        return TwoHot(feature[..., :bins] if critic == "critic" else feature[..., bins : 2 * bins])

    config = BehaviorConfig(
        lambda_=float(g["cfg.lam"]), include_reward=False, actor_grad="reinforce",
        slow_target=bool(g["cfg.slowtar"]), slow_regularizer=float(g["cfg.slowreg"]),
        actor_entropy=str(g.get("cfg.actent", 0.0)), **options,
    )  # fmt: skip
    return Behavior(model, Networks(None, None, value), config)


def check_counted(case, normalisers):
    """Compares running statistics with those after a call."""
    for name, theirs in NORMS.items():
        if name not in normalisers:
            continue
        kind = "percentiles" if f"state_after.{theirs}.lo" in case else "mean_std"
        for part, got in zip((*PARTS[kind], "corr"), normalisers[name], strict=True):
            if f"state_after.{theirs}.{part}" in case:
                assert_elementwise(got, case[f"state_after.{theirs}.{part}"], part)


def make_policy(raw):
    """The policy of raw outputs by golden name, in the order of their actions' names."""
    parts = []
    if "cont.mean" in raw:
        std = 0.9 * jax.nn.sigmoid(raw["cont.stddev"] + 2) + 0.1
        parts.append(Normal(jnp.tanh(raw["cont.mean"]), std))
    if "disc.logits" in raw:
        parts.append(OneHot(raw["disc.logits"]))
    return Joint(tuple(parts))


def make_actions(case, choices):
    """Flat actions ``[H + 1, N, A]``, of which the last was drawn in the last state."""
    parts = []
    if "in.act.cont" in case:
        parts.append(time_major(case["in.act.cont"]))
    if "in.act.disc" in case:
        parts.append(jax.nn.one_hot(time_major(case["in.act.disc"]), choices))
    actions = jnp.concatenate(parts, -1)
    return jnp.concatenate([jnp.zeros_like(actions[:1]), actions[:-1]])


@pytest.mark.parametrize("name", cases(IMAGINED))
def test_imagination(name):
    g = IMAGINED.case(name)
    bins = g["s0.in.value_logits"].shape[-1]
    norms = {f"{ours}_norm": spread(g, theirs) for ours, theirs in NORMS.items()}
    continuous = "s0.in.act.cont" in g
    behavior = make_behavior(g, {"bins": bins}, continuous, **norms)
    normalisers = behavior.initial_normalisers()
    for call in CALLS:
        with every_array(g.case(call)) as case:
            normalisers = _check_imagination(behavior, case, normalisers, norms)


def _check_imagination(behavior, case, normalisers, norms):
    logits, slow = (time_major(case[f"in.{key}_logits"]) for key in ("value", "slow"))
    names = [key.removeprefix("in.policy.") for key in case if key.startswith("in.policy.")]
    raw = {key: time_major(case[f"in.policy.{key}"]) for key in names}
    actions = make_actions(case, raw["disc.logits"].shape[-1] if "disc.logits" in raw else 0)
    reward, continues = time_major(case["in.rew"]), time_major(case["in.con"])
    model = behavior._model.config
    factor = 1.0 if model.soft_discount else model.discount_factor
    params = {"critic": "critic", "slow_critic": "slow"}

    def loss(raw, logits):
        features = jax.lax.stop_gradient(jnp.concatenate([logits, slow], -1))
        policies = make_policy({key: x[:-1] for key, x in raw.items()})
        trajectory = Trajectory(features, actions, policies)
        discount = factor * continues
        actor, returns, spreads, _ = behavior.policy_loss(
            params, jnp.int32(0), trajectory, reward, discount, normalisers
        )
        counted = {**normalisers, **spreads}
        imagined = Imagined(trajectory, reward, discount, *returns, counted, {})
        grown = jnp.concatenate([logits, slow], -1)
        imagined = imagined._replace(trajectory=trajectory._replace(features=grown))
        critic, _ = behavior.critic_loss("critic", "slow", imagined)
        return actor + critic, (actor, critic, returns, counted)

    got, gradients = jax.jit(
        lambda *given: jax.grad(loss, (0, 1), has_aux=True)(*given)[::-1]
    )(raw, logits)  # fmt: skip
    actor, critic, returns, counted = got
    values = {
        "ret": time_major(returns.target),
        "loss.policy": actor,
        "loss.value": critic,
    }
    for key, want in values.items():
        golden = case[key].mean() if key.startswith("loss") else case[key]
        assert_values(want, golden, key)
    assert_values(time_major(returns.weight), case["weight"][:, :-1], "weight")
    values, scales = _check_normalised(behavior, case, returns, normalisers, counted, norms)
    _check_metrics(case, returns, make_policy(raw), values, scales)
    check_counted(case, counted)
    for key, gradient in gradients[0].items():
        assert_gradients(time_major(gradient), case[f"grad_policy.{key}"], key)
    assert_gradients(time_major(gradients[1]), case["grad_value.value_logits"], "value_logits")
    return counted


def _check_normalised(behavior, case, returns, before, after, norms):
    """Values by the statistics before the call, the gain and the scales by those after it."""
    bins = case["in.value_logits"].shape[-1]
    features = jnp.concatenate(
        [time_major(case[f"in.{key}_logits"]) for key in ("value", "slow")], -1
    )
    assert features.shape[-1] == 2 * bins
    for key, name in (("critic", "value"), ("slow", "slow_value")):
        raw = behavior._networks.value(key, features).mean()
        assert_values(time_major(raw), case[name], name)
    value, slow = (behavior._value(key, features, before) for key in ("critic", "slow"))
    scales = {
        key: offset_and_scale(after[key], norms[f"{key}_norm"]) for key in NORMS if key in after
    }
    for key, theirs in (("return", "ret"), ("value", "val"), ("advantage", "adv")):
        for part, got in zip(("offset", "scale"), scales.get(key, (0.0, 1.0)), strict=True):
            if f"{theirs}_{part}" in case:
                assert_elementwise(got, case[f"{theirs}_{part}"], f"{theirs}_{part}")
    baseline = slow if behavior._config.slow_target else value
    advantage = (returns.target - baseline[:-1]) / scales.get("return", (0.0, 1.0))[1]
    assert_values(time_major(advantage), case["adv"], "adv")
    return (value, slow), scales


def _check_metrics(case, returns, policy, values, scales):
    """The means that the reference reports, by its names."""
    value, slow = values
    unit = (0.0, 1.0)
    scaled = [
        (returns.target - scales.get(key, unit)[0]) / scales.get(key, unit)[1]
        for key in ("return", "value")
    ]
    advantage = case["adv"]
    means = {
        "adv": advantage.mean(), "adv_std": advantage.std(), "adv_mag": np.abs(advantage).mean(),
        "rew": case["in.rew"].mean(), "con": case["in.con"].mean(),
        "weight": case["weight"].mean(), "val": value.mean(), "slowval": slow.mean(),
        "ret": scaled[0].mean(), "ret_min": scaled[0].min(), "ret_max": scaled[0].max(),
        "ret_rate": (np.abs(scaled[0]) >= 1).mean(), "tar": scaled[1].mean(),
    }  # fmt: skip
    for part in policy.parts:
        key, entropy = "disc" if isinstance(part, OneHot) else "cont", part.entropy()[:-1].mean()
        means[f"ent.{key}"] = entropy
        if f"metrics.rand.{key}" in case:
            means[f"rand.{key}"] = entropy / np.log(part.size)
    for key, want in means.items():
        assert_elementwise(want, case[f"metrics.{key}"], key, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", cases(REPLAYED))
def test_replayed_rows(name):
    g = REPLAYED.case(name)
    bins = g["s0.in.value_logits"].shape[-1]
    near = ReplayValueConfig(slow_regularizer=float(g["cfg.slowreg"]))
    behavior = make_behavior(g, {"bins": bins}, value_norm=spread(g, "valnorm"), replay_value=near)
    normalisers = behavior.initial_normalisers()
    for call in sorted({key.split(".")[0] for key in g if not key.startswith("cfg")}):
        with every_array(g.case(call)) as case:
            normalisers = _check_replayed(behavior, case, normalisers)


def _check_replayed(behavior, case, normalisers):
    batch = {
        "reward": time_major(case["in.rew"]),
        "is_last": time_major(case["in.last"]),
        "is_terminal": time_major(case["in.term"]),
        "is_first": jnp.zeros_like(time_major(case["in.last"])),
    }
    slow, bootstrap = time_major(case["in.slow_logits"]), time_major(case["in.boot"])

    def loss(logits):
        features = jnp.concatenate([logits, slow], -1)
        value, counted, _ = behavior.replay_loss(
            "critic", "slow", features, batch, bootstrap, normalisers
        )
        return value, counted

    logits = time_major(case["in.value_logits"])
    (value, counted), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(logits)
    assert_values(value, case["loss"].mean(), "loss")
    assert_gradients(time_major(gradient), case["grad_value_logits"], "value_logits")
    check_counted(case, counted)
    model = behavior._model.config
    returns = replay_returns(
        batch["reward"], bootstrap, batch["is_last"], batch["is_terminal"],
        discount_factor=model.discount_factor, lambda_=behavior._config.lambda_,
    )  # fmt: skip
    assert_values(time_major(returns.target), case["ret"], "ret")
    return counted


MISC = load("misc", FOLDER_V3)


@pytest.mark.parametrize("name", [x for x in cases(MISC) if x.startswith("lambda_return")])
def test_returns_of_replayed_rows(name):
    """Of any factor and mixing, with their gradients; values take no part beside bootstraps."""
    with every_array(MISC.case(name)) as g:
        assert "in.val" in g
        g.used.add("in.val")
        factor, lambda_ = float(g["cfg.disc"]), float(g["cfg.lam"])

        def returns(reward, bootstrap, terminal):
            target = replay_returns(
                reward, bootstrap, time_major(g["in.last"]), terminal,
                discount_factor=factor, lambda_=lambda_,
            ).target  # fmt: skip
            return target.sum(), target

        inputs = [time_major(g[f"in.{key}"]).astype(float) for key in ("rew", "boot", "term")]
        gradients, target = jax.grad(returns, (0, 1, 2), has_aux=True)(*inputs)
        assert_elementwise(time_major(target), g["ret"], "ret")
        for key, gradient in zip(("rew", "boot", "term"), gradients, strict=True):
            assert_elementwise(time_major(gradient), g[f"grad_{key}"], key)


@pytest.mark.parametrize("name", [x for x in cases(MISC) if x.startswith("slow")])
def test_slow_copies(name):
    with every_array(MISC.case(name)) as g:
        config = BehaviorConfig(
            slow_initial_copy=True, slow_target_fraction=float(g["cfg.rate"]),
            slow_target_update=int(g["cfg.every"]),
        )  # fmt: skip
        slow = {key: g[f"w.dst.{key}"] for key in ("kernel", "bias")}
        assert all(f"w.src.{key}" in g for key in slow)
        g.used |= {f"w.src.{key}" for key in slow}  # Replaced before the first copy.
        for call in range(len([key for key in g if key.endswith("w_after.dst.bias")])):
            source = {key: g[f"s{call}.in.src.{key}"] for key in slow}
            slow = slow_copy(slow, source, jnp.int32(call), config)
            for key, got in slow.items():
                assert_elementwise(got, g[f"s{call}.w_after.dst.{key}"], f"{call} {key}")
