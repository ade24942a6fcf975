"""Losses and updates of actor and critic against DreamerV2's numbers."""

from __future__ import annotations

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import OneHot
from common.distributions.squashed import clip_straight_through
from common.dynamics import rssm
from common.dynamics.rssm import RSSMState
from common.imagine import Trajectory
from common.nets.heads import HeadConfig
from common.returns import discount_weights
from common.spaces import ObservationSpec
from common.world_model import WorldModelConfig, world_model
from dreamer.agent import Behavior, Dreamer, Noise, slow_copy
from dreamer.config import BehaviorConfig, Config
from dreamer.networks import make_networks
from tests import golden_data, golden_weights
from tests.golden_data import assert_exact, assert_gradients, assert_values, assert_weights
from tests.test_golden_world_model import (
    check_gradients,
    check_weights,
    latent_noise,
    statistics,
    updates,
)

METRICS = {
    "actor_loss": "actor/loss",
    "actor_grad_norm": "actor/grad_norm",
    "actor_ent": "actor/entropy",
    "actor_ent_scale": "actor/entropy_scale",
    "critic_loss": "critic/loss",
    "critic_grad_norm": "critic/grad_norm",
    "critic": "critic/value_mean",
    "critic_slow": "critic/slow_value_mean",
    "critic_target": "imagination/return_mean",
    "reward_mean": "imagination/reward_mean",
    "reward_std": "imagination/reward_std",
}
"""Our names of DreamerV2's metrics of learning in imagination."""
LOSSES = "actor_critic"
CASES = sorted(
    case for case in golden_data.first_parts(LOSSES)
    if f"{case}.out.actor_loss" in golden_data.load(LOSSES)
)  # fmt: skip
SLOW_TARGETS = [x for x in golden_data.first_parts(LOSSES) if x.startswith("slow_target")]
STEPS = sorted(path.stem for path in pathlib.Path(golden_data.FOLDER).glob("ac_step_*.npz"))


def check_metrics(g, prefix, metrics, mix):
    """Compares the scalars of a behaviour update."""
    for name, want in golden_weights.weights(g, f"{prefix}metrics").items():
        got = mix if name == "actor_grad_mix" else metrics[METRICS[name]]
        assert_values(got, want, f"{prefix}metrics.{name}")


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


def _state(dreamer, params, step):
    """A training state that holds just what the losses read."""
    state = jax.eval_shape(dreamer.init, jax.random.key(0))
    return state._replace(params=params, optimizers={}, updates=jnp.asarray(step, jnp.int32))


@pytest.mark.parametrize("case", CASES)
def test_losses_with_free_inputs(case):
    with golden_data.every_array(_loss_arrays(case)) as g:
        dreamer = _bare_dreamer(g, case)
        step = int(g["cfg.step"])
        assert_values(dreamer.mix(step), g["cfg.actor_grad_mix_value"], "mix")
        assert_values(dreamer.entropy_scale(step), g["cfg.actor_ent_value"], "entropy scale")
        like = jax.eval_shape(dreamer.networks.init, jax.random.key(0), g["in.feat"])
        params = golden_weights.load(golden_weights.weights(g, "w"), like)
        inputs = {name: g[f"in.{name}"] for name in ("feat", "action", "reward", "discount")}

        def actor_loss(actor, inputs):
            trajectory = Trajectory(inputs["feat"], inputs["action"])
            rest = inputs["reward"], inputs["discount"]
            loss, returns, metrics = dreamer.policy_loss(
                _state(dreamer, params, step), actor, trajectory, *rest
            )
            behavior = Behavior(trajectory, *rest, *returns, jnp.ones(()), metrics)
            return loss, behavior

        gradients, behavior = jax.jit(jax.grad(actor_loss, (0, 1), has_aux=True))(
            params["actor"], inputs
        )
        check_gradients(g, "grad_actor_loss.w.", {"actor": gradients[0]})
        for name, gradient in gradients[1].items():
            assert_gradients(gradient, g[f"grad_actor_loss.{name}"], name)
        gradient, metrics = jax.jit(jax.grad(dreamer.value_loss, has_aux=True))(
            params["critic"], behavior
        )
        check_gradients(g, "grad_critic_loss.w.", {"critic": gradient})
        metrics |= behavior.metrics
        check_metrics(g, "", metrics, dreamer.mix(step))
        outputs = jax.jit(functools.partial(_outputs, dreamer))(params, behavior)
        outputs |= {"actor_loss": metrics["actor/loss"], "critic_loss": metrics["critic/loss"]}
        for name, want in golden_weights.weights(g, "out").items():
            assert_values(outputs[name], want, name)


def _outputs(dreamer, params, behavior):
    """Intermediate results by golden name."""
    feature, networks = behavior.trajectory.features, dreamer.networks
    policy = networks.policy(params["actor"], feature[:-2])
    slow, value = (networks.value(params[name], feature) for name in ("slow_critic", "critic"))
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


def behavior_noise(g, prefix, dreamer, params):
    """Noise that reproduces the recorded trajectory of the policy with the given weights."""
    if f"{prefix}seq.logit" in g:
        logits, sample = g[f"{prefix}seq.logit"][1:], g[f"{prefix}seq.stoch"][1:]
        assert_exact((logits + g[f"{prefix}prior_gumbel"]).argmax(-1), sample.argmax(-1))
        latent = golden_data.uniforms_for(sample, logits)
    else:
        latent = g[f"{prefix}prior_eps"]
    if f"{prefix}action_gumbel" not in g:
        return Noise(None, latent, g[f"{prefix}action_u"])
    policy = dreamer.networks.policy(params["actor"], g[f"{prefix}seq.feat"][:-1])
    logits, action = np.asarray(policy.parts[0].logits), g[f"{prefix}seq.action"][1:]
    assert_exact((logits + g[f"{prefix}action_gumbel"]).argmax(-1), action.argmax(-1))
    return Noise(None, latent, golden_data.uniforms_for(action, logits)[..., None])


def check_behavior(g, prefix, dreamer, params, behavior):
    """Compares an imagined trajectory and the targets on it."""
    model = dreamer.model
    states = RSSMState(g[f"{prefix}seq.deter"], g[f"{prefix}seq.stoch"])
    weight = discount_weights(behavior.discount)
    assert_values(behavior.weight, np.asarray(weight[:-1]), "weight")
    got = {
        "seq.feat": behavior.trajectory.features,
        "seq.action": behavior.trajectory.actions,
        "seq.discount": behavior.discount,
        "seq.weight": weight,
        "seq.reward": behavior.reward,
        "target": behavior.target,
    }
    for name, value in got.items():
        assert_values(value, g[f"{prefix}{name}"], f"{prefix}{name}")
    features = model.feature(params["world_model"], states)
    assert_values(behavior.trajectory.features, features, "states")
    if f"{prefix}action_before_clip" in g:
        clipped = clip_straight_through(g[f"{prefix}action_before_clip"])
        assert_values(behavior.trajectory.actions[1:], np.asarray(clipped), "before the clip")
    else:
        assert_exact(behavior.trajectory.actions, g[f"{prefix}seq.action"], "action")
    weights = params["world_model"]["rssm"]
    prior = dynamics_of(dreamer, weights).prior(weights, states)
    for name, value in statistics(prior).items():
        # The start state has no prior.
        assert_values(value[1:], g[f"{prefix}seq.{name}"][1:], f"{prefix}seq.{name}")


def dynamics_of(dreamer, params):
    """The dynamics of a world model as functions."""
    config = dreamer.model.config.rssm
    inputs = golden_weights.flatten({"rssm": params})["rssm.obs_out.kernel"].shape[0]
    return rssm.functions(config, dreamer.model.actions.size, inputs - config.deter)


def check_behavior_update(g, prefix, dreamer, state, noise, starts, update):
    """Makes one update of actor and critic, compares all of it, and returns the new state."""
    before = state.params
    after, behavior = update(state, noise, *starts)
    check_behavior(g, prefix, dreamer, before, behavior)
    normed = {"reward_normed_mean": behavior.reward.mean(), "reward_normed_std": behavior.reward.std()}
    metrics = behavior.metrics | {METRICS.get(k, k): v for k, v in normed.items()}
    renamed = {**METRICS, **{name: name for name in normed}}
    for name, want in golden_weights.weights(g, f"{prefix}metrics").items():
        if name == "actor_grad_mix":
            got = dreamer.mix(state.updates)
        else:
            got = metrics[renamed[name]]
        assert_values(got, want, f"{prefix}metrics.{name}")
    for name in ("actor", "critic"):
        assert_values(metrics[f"{name}/loss"], g[f"{prefix}{name}_loss"], f"{name}_loss")
    return after, behavior


def behavior_gradients(dreamer, state, noise, start, is_terminal):
    """Gradients of actor and critic before clipping."""
    loss = functools.partial(dreamer.behavior_loss, state, noise, start, is_terminal)
    actor, behavior = jax.grad(loss, has_aux=True)(state.params["actor"])
    critic, _ = jax.grad(dreamer.value_loss, has_aux=True)(state.params["critic"], behavior)
    return {"actor": actor, "critic": critic}


@pytest.mark.parametrize("file", STEPS)
def test_two_behavior_updates(file):
    with golden_data.every_array(golden_data.load(file)) as g:
        actions = golden_weights.action_spec(len(g["w.actor.out.bias"]), "w.actor.std.bias" not in g)
        # What the world model observes plays no part.
        dreamer = golden_weights.agent(g, {"x": ObservationSpec((1,), "vector")}, actions)
        state = jax.jit(dreamer.init)(jax.random.key(0))
        flatten = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        start = RSSMState(flatten(g["in.start_deter"]), flatten(g["in.start_stoch"]))
        starts = start, flatten(g["in.is_terminal"])
        update = jax.jit(dreamer.update_behavior)
        differentiate = jax.jit(functools.partial(behavior_gradients, dreamer))
        golden = golden_weights.weights(g, "w")
        for step in updates(g):
            prefix = f"s{step}."
            parts = golden_weights.load(golden, golden_weights.components(state.params))
            state = state._replace(params=golden_weights.agent_params(parts))
            noise = behavior_noise(g, prefix, dreamer, state.params)
            gradients = differentiate(state, noise, *starts)
            check_gradients(g, f"{prefix}grad.", gradients)
            _check_exact_gradients(g, prefix, gradients["actor"])
            before = state.params["world_model"]
            state, _ = check_behavior_update(g, prefix, dreamer, state, noise, starts, update)
            after = golden_weights.components(state.params)
            check_weights(g, f"{prefix}w_after", after)
            assert jax.tree.all(jax.tree.map(np.array_equal, before, state.params["world_model"]))
            golden = golden | golden_weights.weights(g, f"{prefix}w_after")


def _check_exact_gradients(g, prefix, gradient):
    """The exact path derivative of the truncated normal is not the one that is followed."""
    exact = golden_weights.weights(g, f"{prefix}grad_exact_truncnorm")
    ours = golden_weights.dump({"actor": gradient})
    assert exact.keys() in ({}.keys(), ours.keys())
    if exact:
        difference = sum(np.square(ours[name] - x).sum() for name, x in exact.items())
        assert difference > 1e-2 * sum(np.square(x).sum() for x in exact.values())
