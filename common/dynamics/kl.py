"""KL divergence between posterior and prior, KL balancing and free nats."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import optax

from common.checks import AT, NonNegative, Options, Share, Whole, refuse
from common.distributions import Normal, OneHot, kl_divergence
from common.types import Array

Latent = OneHot | Normal


@dataclasses.dataclass(frozen=True)
class KLConfig(Options):
    """How the posterior and the prior are drawn together.

    Attributes:
        scale: Weight of the KL term in the world model's loss.
        balance: Share of the gradient that trains the prior, in [0, 1]; the posterior gets
            the rest. At 0.5 there is no balancing: both get the full gradient, and
            free nats count per step.
        free: Free nats: no gradient where the divergence is below this.
        free_avg: Whether free nats act on the mean over batch and time or on each step.
        forward: Whether the divergence is KL(prior || posterior) instead of
            KL(posterior || prior).
        overshooting: Distance of latent overshooting in steps, 0 for none as published with
            PlaNet's results; see ``common.dynamics.overshooting``.
        overshooting_scale: Weight of the overshooting term in the world model's loss.
        dyn_scale: Weight of the prior's own term, as DreamerV3 has it with 1; where this or
            ``rep_scale`` is above 0, they replace scale and balance, and free nats count per step.
        rep_scale: Weight of the posterior's own term; DreamerV3 has 0.1.
    """

    scale: NonNegative = 1.0
    balance: Share = 0.8
    free: NonNegative = 1.0
    free_avg: bool = True
    forward: bool = False
    overshooting: Whole = 0
    overshooting_scale: NonNegative = 1.0
    dyn_scale: NonNegative = 0.0
    rep_scale: NonNegative = 0.0

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        if self.two_terms and self.forward:
            refuse(self, f"{AT}forward true needs {AT}dyn_scale 0 and {AT}rep_scale 0")

    @property
    def two_terms(self) -> bool:
        """Whether the prior's and the posterior's term have weights of their own."""
        return self.dyn_scale > 0 or self.rep_scale > 0

    def remarks(self) -> list[str]:
        """Which options are without effect, a line each that begins with the option's name."""
        names = ("scale", "balance", "free_avg") if self.two_terms else ()
        return [
            f"{name} is without effect beside dyn_scale and rep_scale; set both 0, or leave it out"
            for name in names
            if getattr(self, name) != getattr(KLConfig, name)
        ]

    @property
    def scales(self) -> dict[str, float]:
        """The weight of every term that ``kl_terms`` returns."""
        if self.two_terms:
            return {"dyn": self.dyn_scale, "rep": self.rep_scale}
        return {"kl": self.scale}


def kl_terms(posterior: Latent, prior: Latent, config: KLConfig) -> tuple[dict[str, Array], Array]:
    """Returns the KL terms by name: "kl" of ``kl_loss``, or the two of DreamerV3, "dyn" and "rep".

    ``dyn = max(KL(sg q || p), free)``, ``rep = max(KL(q || sg p), free)``, sg the stopped gradient
    (arXiv:2301.04104, Eq. 3). Weighted by scales of 1 and 0.1, their gradients are those of
    ``kl_loss`` per step with scale 1.1 and balance 1 / 1.1.

    Args:
        posterior: Distribution of the latent with statistics ``[B, T, ...]``, q.
        prior: Its prediction, of the same family and shape, p.
        config: Free nats, and which terms; ``config.scales`` are left to the caller.

    Returns:
        The terms ``[B, T]``, and the divergence ``[B, T]`` without free nats.
    """
    if not config.two_terms:
        term, value = kl_loss(posterior, prior, config)
        return {"kl": term}, value
    chex.assert_trees_all_equal_shapes(posterior, prior)
    stop = jax.lax.stop_gradient
    dyn = kl_divergence(stop(posterior), prior)
    rep = kl_divergence(posterior, stop(prior))
    return {
        "dyn": jnp.maximum(dyn, config.free),
        "rep": jnp.maximum(rep, config.free),
    }, stop(rep)


def kl_loss(posterior: Latent, prior: Latent, config: KLConfig) -> tuple[Array, Array]:
    """Returns the KL term with balancing and free nats (Alg. 2 of arXiv:2010.02193).

    In words of the paper ``L = (1 - balance) max(KL(q || sg p), free) + balance max(KL(sg q || p),
    free)``, q the posterior, p the prior, sg the stopped gradient. Both divergences have
    the same value, so it is computed once, from arguments whose gradients are scaled.

    ``balance`` 0.5 takes the branch that the V2 reference has for it: ``mean(max(KL(q || p),
    free))`` with the full gradient to both, whatever ``free_avg`` says. That is also the
    loss of PlaNet and of Dreamer V1 (free nats per step).

    Args:
        posterior: Distribution of the latent with statistics ``[B, T, ...]``.
        prior: Its prediction, of the same family and shape.
        config: Balance and free nats; ``config.scale`` is left to the caller.

    Returns:
        The term ``[B, T]``, whose mean is the loss, and the divergence ``[B, T]`` without free
        nats. Free nats on the mean fill the term with ``free`` as long as the mean is below it.
    """
    chex.assert_trees_all_equal_shapes(posterior, prior)
    per_step = config.balance == 0.5 or not config.free_avg
    if config.balance != 0.5:
        posterior = _scale_gradient(posterior, 1 - config.balance)
        prior = _scale_gradient(prior, config.balance)
    value = kl_divergence(prior, posterior) if config.forward else kl_divergence(posterior, prior)
    if per_step:
        return jnp.maximum(value, config.free), value
    return jnp.where(value.mean() > config.free, value, config.free), value


def _scale_gradient(latent: Latent, factor: float) -> Latent:
    return jax.tree.map(lambda x: optax.scale_gradient(x, factor), latent)
