"""Losses and updates of actor and critic against DreamerV2's numbers."""

from __future__ import annotations

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import OneHot
from common.dynamics.rssm import RSSMState
from common.learning.returns import discount_weights
from common.model.config import WorldModelConfig
from common.model.imagine import Trajectory
from common.model.world_model import world_model
from common.nets.heads import HeadConfig
from common.spaces import ObservationSpec
from dreamer.agent import Dreamer
from dreamer.behavior import Imagined
from dreamer.config import BehaviorConfig, Config
from dreamer.learn import slow_copy
from dreamer.networks import make_networks
from tests import golden_data, golden_weights
from tests.golden_checks import (
    behavior_noise,
    blank_state,
    check_behavior,
    check_gradients,
    check_metrics,
    check_weights,
    record_gradients,
    updates,
)
from tests.golden_data import assert_gradients, assert_values, assert_weights

LOSSES = "actor_critic"
CASES = sorted(
    case for case in golden_data.first_parts(LOSSES)
    if f"{case}.out.actor_loss" in golden_data.load(LOSSES)
)  # fmt: skip
SLOW_TARGETS = [x for x in golden_data.first_parts(LOSSES) if x.startswith("slow_target")]
STEPS = sorted(path.stem for path in pathlib.Path(golden_data.FOLDER).glob("ac_step_*.npz"))


def _loss_arrays(case):
    """The arrays of one case, with inputs and weights that cases share."""
    every = golden_data.load(LOSSES)
    arrays = {k: x for k, x in every.items() if k.startswith(("in.", "w.", "cfg.", "out."))}
    family = every.case(case.split("_")[0])
    arrays |= {k: x for k, x in family.items() if k.startswith(("in.", "w."))}
    return golden_data.Arrays(arrays | every.case(case))


def _bare_dreamer(g, case):
    """Dreamer for losses alone: its world model is never used."""
    actions = golden_weights.action_spec(g["in.action"].shape[-1], "w.actor.std.bias" not in g)
    behavior = BehaviorConfig(
        lambda_=float(g["cfg.lambda"]),
        actor_grad=case.split("_")[1],
        actor_grad_mix=str(g["cfg.actor_grad_mix"]),
        actor_entropy=str(g["cfg.actor_ent"]),
    )
    model = world_model(WorldModelConfig(), {"x": ObservationSpec((1,), "vector")}, actions)
    critic = HeadConfig(**golden_weights.mlp(g, "w.critic"))
    networks = make_networks(golden_weights.actor_config(g), critic, actions)
    return Dreamer(model, networks, Config(behavior=behavior))


@pytest.mark.parametrize("case", CASES)
def test_losses_with_free_inputs(case):
    with golden_data.every_array(_loss_arrays(case)) as g:
        dreamer = _bare_dreamer(g, case)
        step = int(g["cfg.step"])
        assert_values(dreamer.behavior.mix(step), g["cfg.actor_grad_mix_value"], "mix")
        assert_values(
            dreamer.behavior.entropy_scale(step), g["cfg.actor_ent_value"], "entropy scale"
        )
        like = jax.eval_shape(dreamer.networks.init, jax.random.key(0), g["in.feat"])
        params = golden_weights.load(golden_weights.weights(g, "w"), like)
        inputs = {name: g[f"in.{name}"] for name in ("feat", "action", "reward", "discount")}

        def actor_loss(actor, inputs):
            feature = jax.lax.stop_gradient(inputs["feat"][:-1])
            policies = dreamer.networks.policy(actor, feature)
            trajectory = Trajectory(inputs["feat"], inputs["action"], policies)
            rest = inputs["reward"], inputs["discount"]
            loss, returns, _, metrics = dreamer.behavior.policy_loss(
                params, jnp.asarray(step, jnp.int32), trajectory, *rest, {}
            )
            behavior = Imagined(trajectory, *rest, *returns, {}, metrics)
            return loss, behavior

        gradients, behavior = jax.jit(jax.grad(actor_loss, (0, 1), has_aux=True))(
            params["actor"], inputs
        )
        check_gradients(g, "grad_actor_loss.w.", {"actor": gradients[0]})
        for name, gradient in gradients[1].items():
            assert_gradients(gradient, g[f"grad_actor_loss.{name}"], name)
        gradient, metrics = jax.jit(jax.grad(dreamer.behavior.critic_loss, has_aux=True))(
            params["critic"], params["slow_critic"], behavior
        )
        check_gradients(g, "grad_critic_loss.w.", {"critic": gradient})
        metrics |= behavior.metrics
        check_metrics(g, "", metrics, dreamer.behavior.mix(step))
        outputs = jax.jit(functools.partial(_outputs, dreamer))(params, behavior)
        outputs |= {"actor_loss": metrics["actor/loss"], "critic_loss": metrics["critic/loss"]}
        for name, want in golden_weights.weights(g, "out").items():
            assert_values(outputs[name], want, name)


def _outputs(dreamer, params, behavior):
    """Intermediate results by golden name."""
    feature, networks = behavior.trajectory.features, dreamer.networks
    policy = networks.policy(params["actor"], feature[:-2])
    slow, value = (
        networks.value(params[name], feature).mean() for name in ("slow_critic", "critic")
    )
    head = policy.parts[0]
    if isinstance(head, OneHot):
        outputs = {"policy_logits": head.logits}
    else:
        outputs = {"policy_loc": head.loc, "policy_scale": head.scale}
    return outputs | {
        "target": behavior.target,
        "weight": discount_weights(behavior.discount),
        "slow_value": slow,
        "baseline": slow[:-2],
        "advantage": behavior.target[1:] - slow[:-2],
        "log_prob": policy.log_prob(behavior.trajectory.actions[1:-1]),
        "entropy": policy.entropy(),
        "critic_mean": value[:-1],
        "critic_log_prob": -0.5 * ((behavior.target - value[:-1]) ** 2 + np.log(2 * np.pi)),
    }


@pytest.mark.parametrize("case", SLOW_TARGETS)
def test_slow_target(case):
    with golden_data.every_array(golden_data.load(LOSSES).case(case)) as g:
        names = ("slow_target_update", "slow_target_fraction")
        config = BehaviorConfig(**{name: g[f"cfg.{name}"].item() for name in names})
        slow = {"w": g["slow_before"]}
        for call, critic in enumerate(g["critic_at_call"]):
            slow = slow_copy(slow, {"w": critic}, jnp.asarray(call), config)
            assert_weights(slow["w"], g["slow_after_call"][call], f"call {call}")


@pytest.mark.parametrize("file", STEPS)
def test_two_behavior_updates(file):
    with golden_data.every_array(golden_data.load(file)) as g:
        discrete = "w.actor.std.bias" not in g
        actions = golden_weights.action_spec(len(g["w.actor.out.bias"]), discrete)
        # What the world model observes plays no part.
        specs = {"x": ObservationSpec((1,), "vector")}
        dreamer = record_gradients(golden_weights.agent(g, specs, actions))
        state = blank_state(dreamer)
        flatten = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        start = RSSMState(flatten(g["in.start_deter"]), flatten(g["in.start_stoch"]))
        starts = start, flatten(g["in.is_terminal"])
        update = jax.jit(dreamer.update_behavior)
        golden = golden_weights.weights(g, "w")
        for step in updates(g):
            prefix = f"s{step}."
            parts = golden_weights.load(golden, golden_weights.components(state.params))
            before = state._replace(params=golden_weights.agent_params(parts))
            noise = behavior_noise(g, prefix, dreamer, before.params)
            state, behavior = update(before, noise, *starts)
            metrics = behavior.metrics
            gradients = {name: metrics[f"{name}/gradients"] for name in ("actor", "critic")}
            check_gradients(g, f"{prefix}grad.", gradients)
            _check_exact_gradients(g, prefix, gradients["actor"])
            check_behavior(g, prefix, dreamer, before.params, behavior)
            check_metrics(g, prefix, metrics, dreamer.behavior.mix(before.updates))
            check_weights(g, f"{prefix}w_after", golden_weights.components(state.params))
            golden = golden | golden_weights.weights(g, f"{prefix}w_after")


def _check_exact_gradients(g, prefix, gradient):
    """The exact path derivative of the truncated normal is not the one that is followed."""
    exact = golden_weights.weights(g, f"{prefix}grad_exact_truncnorm")
    ours = golden_weights.dump({"actor": gradient})
    assert exact.keys() in ({}.keys(), ours.keys())
    if exact:
        difference = sum(np.square(ours[name] - x).sum() for name, x in exact.items())
        assert difference > 1e-2 * sum(np.square(x).sum() for x in exact.values())
