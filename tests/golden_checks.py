"""Comparisons of world model and behaviour with golden arrays, shared by their tests."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

from common.distributions.squashed import clip_straight_through
from common.dynamics import rssm
from common.dynamics.rssm import RSSMState
from common.learning.normalize import initial_magnitude
from common.learning.optimizers import Optimizer
from common.learning.returns import discount_weights
from common.rows import ROW_KEYS
from common.spaces import ObservationSpec
from dreamer.behavior import Noise
from tests import golden_data, golden_weights
from tests.golden_data import assert_exact, assert_gradients, assert_values, assert_weights

METRICS = {
    "model_kl": "world_model/kl",
    "prior_ent": "world_model/prior_entropy",
    "post_ent": "world_model/posterior_entropy",
    "model_loss": "world_model/loss",
    "model_grad_norm": "world_model/grad_norm",
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
"""Our names of DreamerV2's metrics; others are losses of world-model terms."""


def updates(g):
    """Numbers of the recorded updates, in order."""
    return sorted({int(match[1]) for name in g if (match := re.match(r"s(\d+)\.", name))})


def blank_state(dreamer):
    """The first training state with weights of zero, to put golden weights in."""
    shapes = jax.eval_shape(dreamer.init, jax.random.key(0))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return state._replace(normalisers={"vectors": {}, "reward": initial_magnitude()})


def record_gradients(dreamer):
    """Makes the optimizers of an agent report their gradients among the metrics."""
    for name, optimizer in dreamer.optimizers.items():
        dreamer.optimizers[name] = _Recorder(optimizer)
    return dreamer


class _Recorder:
    """An optimizer with the gradients that it was given among its metrics."""

    def __init__(self, optimizer: Optimizer):
        self.init = optimizer.init
        self._update = optimizer.update

    def update(self, grads, state, params):
        params, state, metrics = self._update(grads, state, params)
        return params, state, metrics | {"gradients": grads}


def batch_of(g, prefix):
    """The rows of a batch."""
    batch = golden_weights.weights(g, prefix)
    return batch | {"is_last": np.zeros_like(batch["is_first"])}


def specs_of(batch):
    """Specs of the observations in a batch ``[B, T, ...]``."""
    rows = {key: x for key, x in batch.items() if key not in ROW_KEYS}
    kinds = {True: "image", False: "vector"}
    return {key: ObservationSpec(x.shape[2:], kinds[x.ndim == 5]) for key, x in rows.items()}


def latent_noise(g, prefix, sample, logits, gumbel):
    """Noise of the latents that reproduces recorded samples, with a check of its record."""
    if f"{prefix}{logits}" not in g:
        return g[f"{prefix}{gumbel.replace('gumbel', 'eps')}"]
    sample, logits = g[f"{prefix}{sample}"], g[f"{prefix}{logits}"]
    assert_exact((logits + g[f"{prefix}{gumbel}"]).argmax(-1), sample.argmax(-1), prefix)
    return golden_data.uniforms_for(sample, logits)


def statistics(distribution, prefix=""):
    """Statistics of a latent by golden name."""
    if hasattr(distribution, "logits"):
        return {f"{prefix}logit": distribution.logits}
    return {f"{prefix}mean": distribution.loc, f"{prefix}std": distribution.std}


def check_losses(g, prefix, dreamer, params, losses):
    """Compares everything that a pass over a batch computes."""
    states, posterior, prior = losses.observed
    got = {"deter": states.deter, "embed": losses.embed, "kl_value": losses.kl_value}
    got |= {"feat": dreamer.model.feature(params, states), "model_loss": losses.total}
    got |= statistics(posterior, "post_") | statistics(prior, "prior_")
    got |= {f"log_prob_{key}": value for key, value in losses.log_probs.items()}
    for name, value in got.items():
        assert_values(value, g[f"{prefix}{name}"], f"{prefix}{name}")
    # The prior's sample takes no part in learning.
    for part, distribution in {"prior_": prior, "post_": posterior}.items():
        noise = latent_noise(g, prefix, f"{part}stoch", f"{part}logit", f"{part}gumbel")
        compare = assert_exact if hasattr(distribution, "logits") else assert_values
        compare(distribution.sample(noise), g[f"{prefix}{part}stoch"], part)
    compare(states.stoch, g[f"{prefix}post_stoch"], "post_stoch")


def check_metrics(g, prefix, metrics, mix=None):
    """Compares the scalars of an update; ``mix`` is the scheduled mix of gradients."""
    metrics = {**metrics, "actor_grad_mix": mix}
    for name, want in golden_weights.weights(g, f"{prefix}metrics").items():
        if name.startswith("reward_normed"):
            continue  # It is no metric of ours; ``check_behavior`` computes it.
        got = metrics.get(METRICS.get(name, name), metrics.get(f"world_model/{name}"))
        assert_values(got, want, f"{prefix}metrics.{name}")


def check_gradients(g, prefix, gradients, order=None):
    """Compares gradients by weight; those that are not recorded must be zero."""
    for name, gradient in golden_weights.dump(gradients, order).items():
        if f"{prefix}{name}" in g:
            assert_gradients(gradient, g[f"{prefix}{name}"], f"{prefix}{name}")
        else:
            assert not gradient.any(), f"{prefix}{name} is zero in the reference"


def check_weights(g, prefix, params, order=None):
    """Compares weights after an update."""
    got = golden_weights.dump(params, order)
    for name, want in golden_weights.weights(g, prefix).items():
        assert_weights(got[name], want, f"{prefix}.{name}")


def behavior_noise(g, prefix, dreamer, params):
    """Noise that reproduces the recorded trajectory of the policy with the given weights."""
    if f"{prefix}seq.logit" in g:
        logits, sample = g[f"{prefix}seq.logit"][1:], g[f"{prefix}seq.stoch"][1:]
        assert_exact((logits + g[f"{prefix}prior_gumbel"]).argmax(-1), sample.argmax(-1))
        latent = golden_data.uniforms_for(sample, logits)
    else:
        latent = g[f"{prefix}prior_eps"]
    if f"{prefix}action_gumbel" not in g:
        return Noise(latent, g[f"{prefix}action_u"])
    policy = dreamer.networks.policy(params["actor"], g[f"{prefix}seq.feat"][:-1])
    logits, action = np.asarray(policy.parts[0].logits), g[f"{prefix}seq.action"][1:]
    assert_exact((logits + g[f"{prefix}action_gumbel"]).argmax(-1), action.argmax(-1))
    return Noise(latent, golden_data.uniforms_for(action, logits)[..., None])


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
    for name in ("mean", "std"):
        got = getattr(behavior.reward, name)()
        assert_values(got, g[f"{prefix}metrics.reward_normed_{name}"], f"reward_normed_{name}")
    for name in ("actor", "critic"):
        loss = behavior.metrics[f"{name}/loss"]
        assert_values(loss, g[f"{prefix}{name}_loss"], f"{prefix}{name}_loss")
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
