"""Every function of TD-MPC2's networks against the numbers of the public code."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planet.tdmpc2.learn import move_target
from planet.tdmpc2.losses import Losses
from planet.tdmpc2.model import make_model
from planet.tdmpc2.networks import shift_images
from tests import golden_tdmpc2_agent as agents
from tests.golden_data import (
    FOLDER_TDMPC2,
    assert_gradients,
    assert_values,
    assert_weights,
    every_array,
    load,
)

FILES = ("world_model", "world_model_deep")
REDUCE = {"min": lambda x: x.min(0), "avg": lambda x: x.mean(0)}
"""Of the values of two members."""


class World:
    """A file, its networks and weights."""

    def __init__(self, g):
        self.g, self.golden = g, agents.Golden.of_file(g)
        self.networks, self.config = self.golden.networks, self.golden.config
        self.params, self.target_q = self.golden.load("w")
        self.losses = Losses(self.networks, self.config, 1.0)
        self.model = make_model(self.networks, self.config, self.golden.actions)


def check(world, prefix, function, inputs, outputs):
    """Compares outputs, and the gradients of their sum by recorded cotangents.

    Args:
        world: File and weights.
        prefix: Of the case.
        function: ``(params, *inputs) -> outputs`` by golden name, with or without a last axis.
        inputs: Names of the inputs, whose gradients are compared where they are recorded.
        outputs: Golden names of the outputs.
    """
    g = world.g
    names = [f"{prefix}{name}" if f"{prefix}{name}" in g else name for name in inputs]
    given = [jnp.asarray(g[name]) for name in names]

    def scalar(params, *args):
        got, total = function(params, *args), 0.0
        for name, value in got.items():
            cotangent = f"{prefix}in.cotangent_{name}"
            if cotangent in g:
                total += (value * g[cotangent].reshape(value.shape)).sum()
        return total, got

    argnums = tuple(range(1 + len(given)))
    grad = jax.jit(jax.grad(scalar, argnums, has_aux=True))
    (to_params, *to_inputs), got = grad(world.params, *given)
    for name, key in outputs.items():
        assert_values(np.reshape(got[name], g[key].shape), g[key], key)
    if not any(name.startswith(f"{prefix}in.cotangent") for name in g):
        return
    for name, value in zip(inputs, to_inputs, strict=True):
        if f"{prefix}grad.{name}" in g:
            assert_gradients(value, g[f"{prefix}grad.{name}"], f"{prefix}grad.{name}")
    for name, value in agents.named(to_params).items():
        if f"{prefix}grad.{name}" in g:
            assert_gradients(value, g[f"{prefix}grad.{name}"], f"{prefix}grad.{name}")
        else:
            assert not value.any(), f"{prefix}grad.{name} is zero in the reference"


def check_encoder(world):
    encode = lambda params, obs: {"encode": world.networks.encode(params, {"obs": obs})}  # noqa: E731
    check(world, "enc.", encode, ["in.obs"], {"encode": "encode"})


def check_heads(world):
    networks = world.networks

    def heads(params, z, action):
        got = {"next": networks.dynamics(params, z, action)}
        got["reward_logits"] = networks.reward(params, z, action).logits
        if networks.termination:
            got["termination_logits"] = networks.termination(params, z)
        return got

    names = ["next", "reward_logits"] + ["termination_logits"] * bool(networks.termination)
    check(world, "heads.", heads, ["in.z", "in.action"], {name: name for name in names})
    g = world.g
    _, reward, _ = world.model.step(world.params, g["in.z"], g["in.action"])
    assert_values(reward[..., None], g["reward"], "reward")
    if networks.termination:
        probability = jax.nn.sigmoid(networks.termination(world.params, g["in.z"]))
        assert_values(probability[..., None], g["termination"], "termination")


def check_step(world):
    """A planner's step looks for an end behind it."""
    z, _, ended = world.model.step(world.params, world.g["in.z"], world.g["in.action"])
    assert_values(z, world.g["next"])
    assert (ended is None) == (not world.config.terminations)
    if ended is not None:
        logits = world.networks.termination(world.params, world.g["next"])
        assert_values(ended, np.asarray(jax.nn.sigmoid(logits)))


def check_policy(world):
    def policy(params, z):
        draw = world.networks.policy(params, z, world.g["pi.in.eps"])
        got = {name: getattr(draw, name) for name in ("action", "mean", "log_std")}
        return got | {"scaled_entropy": draw.scaled_entropy, "log_prob": draw.log_prob}

    names = ("action", "mean", "log_std", "scaled_entropy")
    check(world, "pi.", policy, ["in.z"], {name: f"pi.{name}" for name in names})
    g, z = world.g, world.g["in.z"]
    entropy, limit = g["pi.entropy"], 2e-4 * np.abs(g["pi.entropy"]).max() + 1e-6
    log_prob = policy(world.params, z)["log_prob"][..., None]
    np.testing.assert_allclose(-log_prob, entropy, rtol=0, atol=limit)
    assert_values(world.model.act(world.params, g["pi.in.eps"], z), g["pi.action"])
    assert_values(world.model.best(world.params, z), g["pi.mean"])


def check_values(world):
    """By all members or two, by the target's or by frozen weights, with dropout or without."""
    g, networks = world.g, world.networks
    cases = sorted({name.split(".")[0] for name in g if re.match("q_[a-z]+_(eval|train)_", name)})
    assert len(cases) >= 12
    for case in cases:
        _, network, _, kind = case.split("_")
        keep = g[f"{case}.in.keep"] if f"{case}.in.keep" in g else None
        pair = g[f"{case}.in.perm"] if kind != "all" else None

        def values(params, z, action, network=network, kind=kind, keep=keep, pair=pair):
            if network == "detach":
                params = jax.lax.stop_gradient(params)
            if network == "target":
                params = params | {"q": world.target_q}
            if kind == "all":
                return {"q": networks.q(params, z, action, keep).logits}
            kept = None if keep is None else keep[pair]
            return {"q": REDUCE[kind](networks.q_two(params, z, action, pair, kept))}

        check(world, f"{case}.", values, ["in.z", "in.action"], {"q": f"{case}.out"})


def check_two_members(world):
    """They are those of all."""
    g, model = world.g, world.model
    given = world.params, g["in.z"], g["in.action"]
    every = model.values(*given)
    assert every.shape == (world.config.num_q, *g["in.z"].shape[:-1])
    pair = g["q_online_eval_avg.in.perm"]
    got = model.value_of(given[0], pair, *given[1:])
    assert_values(got[..., None], g["q_online_eval_avg.out"])
    assert_values(every[pair].mean(0)[..., None], g["q_online_eval_avg.out"])


def check_rollout(world):
    networks = world.networks

    def rollout(params, obs, action):
        first = networks.encode(params, {"obs": obs})
        z = world.losses.rollout(params, first, action)
        return {"z": z, "reward_logits": networks.reward(params, z[:-1], action).logits}

    names = {name: f"rollout.{name}" for name in ("z", "reward_logits")}
    check(world, "rollout.", rollout, ["in.obs", "in.action"], names)


def check_target(world):
    moved = move_target(world.target_q, world.params["q"], world.config.tau)
    for name, value in agents.named({"q": moved}).items():
        assert_weights(value, world.g[f"w_after.target_{name}"], name)


@pytest.mark.parametrize("name", FILES)
def test_world_model(name):
    with every_array(load(name, FOLDER_TDMPC2)) as g:
        world = World(g)
        for part in (check_encoder, check_heads, check_step, check_policy, check_values,
                     check_two_members, check_rollout, check_target):  # fmt: skip
            part(world)


def test_images():
    with every_array(load("pixels", FOLDER_TDMPC2)) as g:
        config = agents.config(g, units=1)
        golden = agents.Golden(g, config, g["in.obs"].shape[1:], 1)
        networks, params = golden.networks, golden.load("w", ["encoder"])[0]
        shifted = shift_images(g["in.obs"], g["aug.in.shift"], golden.config.shift)
        channels = g["aug.cfg.channels"]
        # The public code interpolates at rounded positions.
        assert_values(np.float32(shifted)[..., channels], g["aug.out"], "aug")

        def encode(encoder):
            params = {"encoder": encoder}
            z = networks.encode(params, {"obs": g["in.obs"]}, g["in.shift"])
            return (z * g["in.cotangent_z"]).sum(), z

        grads, z = jax.jit(jax.grad(encode, has_aux=True))(params["encoder"])
        assert_values(z, g["encode"], "encode")
        for name, value in agents.named({"encoder": grads}).items():
            want = g[f"grad.{name}"]
            if name == "encoder.conv3.bias":  # Exactly zero; both are rounding.
                assert max(np.abs(value).max(), np.abs(want).max()) < 1e-6
            else:
                assert_gradients(value, want, name)
        shift = g["seq.in.shift"]
        images = g["in.obs"].reshape(*shift.shape[:2], *g["in.obs"].shape[1:])
        got = networks.encode(params, {"obs": images}, shift)
        assert_values(got, g["seq.encode"], "seq")
