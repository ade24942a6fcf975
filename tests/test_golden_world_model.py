"""Successive updates of the world model against DreamerV2's numbers."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.dynamics.rssm import RSSMState
from common.spaces import ObservationSpec
from common.types import ROW_KEYS
from common.world_model import targets
from tests import golden_data, golden_weights
from tests.golden_data import assert_exact, assert_gradients, assert_values, assert_weights

FILES = ("wm_step_discrete", "wm_step_gaussian")
METRICS = {
    "model_kl": "kl",
    "prior_ent": "prior_entropy",
    "post_ent": "posterior_entropy",
    "model_loss": "loss",
    "model_grad_norm": "grad_norm",
}
"""Our names of the metrics that DreamerV2 names otherwise."""


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


def check_model_metrics(g, prefix, metrics):
    """Compares the scalars of a world-model update."""
    for name, want in golden_weights.weights(g, f"{prefix}metrics").items():
        got = metrics[f"world_model/{METRICS.get(name, name)}"]
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


def updates(g):
    """Numbers of the recorded updates, in order."""
    return sorted({int(match[1]) for name in g if (match := re.match(r"s(\d+)\.", name))})


def gradients_by_term(model, params, noise, batch, start):
    """Gradients of the total and of every unscaled term alone."""

    def terms(params):
        losses = model.losses(params, noise, batch, start)
        return {"total": losses.total, **losses.terms}

    return jax.jacrev(terms)(params)


@pytest.mark.parametrize("file", FILES)
def test_three_updates(file):
    with golden_data.every_array(golden_data.load(file)) as g:
        batch = batch_of(g, "in")
        order = golden_weights.vector_order(g)
        discrete = bool(np.isin(batch["action"], (0, 1)).all())
        actions = golden_weights.action_spec(batch["action"].shape[-1], discrete)
        dreamer = golden_weights.agent(g, specs_of(batch), actions)
        _check_targets(g, dreamer.model.config, batch)
        state = jax.eval_shape(dreamer.init, jax.random.key(0))
        state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
        golden = golden_weights.weights(g, "w")
        like = state.params["world_model"]
        assert golden_weights.flatten(like).keys() == golden.keys()
        update = jax.jit(dreamer.update_model)
        differentiate = jax.jit(functools.partial(gradients_by_term, dreamer.model))
        start = dreamer.model.initial(len(batch["reward"]))
        for step in updates(g):
            prefix = f"s{step}."
            params = golden_weights.load(golden, like, order)
            state = state._replace(params=state.params | {"world_model": params})
            noise = latent_noise(g, prefix, "post_stoch", "post_logit", "post_gumbel")
            _check_gradients(g, prefix, differentiate(params, noise, batch, start), order)
            after, optimizers, metrics, losses = update(state, noise, batch, start)
            check_losses(g, prefix, dreamer, params, losses)
            check_model_metrics(g, prefix, metrics)
            check_weights(g, f"{prefix}w_after", after["world_model"], order)
            if f"{prefix}reward_mean" in g:
                _check_heads(g, prefix, dreamer.model, params, losses)
            state = state._replace(optimizers=optimizers)
            golden = golden_weights.weights(g, f"{prefix}w_after")
            start = RSSMState(g[f"{prefix}deter"][:, -1], g[f"{prefix}post_stoch"][:, -1])


def _check_targets(g, config, batch):
    got = targets(config, batch)
    for name, want in golden_weights.weights(g, "pre").items():
        key = name.removesuffix("_first")
        assert_values(got[key] if key == name else got[key][0, 0], want, f"pre.{name}")


def _check_gradients(g, prefix, gradients, order):
    check_gradients(g, f"{prefix}grad.", gradients.pop("total"), order)
    for term, gradient in gradients.items():
        if any(name.startswith(f"{prefix}term_grad.") for name in g):
            check_gradients(g, f"{prefix}term_grad.{term}.", gradient, order)


def _check_heads(g, prefix, model, params, losses):
    feature = model.feature(params, losses.observed.states)
    assert_values(model.reward(params, feature), g[f"{prefix}reward_mean"], "reward_mean")
    if f"{prefix}discount_mean" in g:
        assert_values(model.discount(params, feature), g[f"{prefix}discount_mean"], "discount_mean")
    for key, mean in model.decode(params, losses.observed.states).items():
        name = f"{prefix}decoder_mean_{key}"
        if model.observations[key].kind == "image":
            assert_values(mean[0, 0] - 0.5, g[f"{name}_first"], name)
        else:
            assert_values(mean, g[name], name)
