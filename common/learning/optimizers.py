"""The optimisers of the references: Adam with DreamerV2's details, LaProp with DreamerV3's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from common.checks import AT, Kind, NonNegative, Options, Range, Share, refuse
from common.errors import UserError, nearest
from common.learning.schedules import check_schedules, parse_schedule
from common.types import Array, Params


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Options):
    """How one group of parameters is optimised.

    Attributes:
        lr: Learning rate.
        eps: Epsilon of Adam; ``adam`` says where it is added.
        clip: Largest global norm of the gradients; 0 does not clip.
        weight_decay: Share of the weights that every step takes away; ``decay`` says of which.
        beta1: Decay of Adam's mean of gradients.
        beta2: Decay of Adam's mean of squared gradients.
        adam: "tensorflow" adds epsilon to the uncorrected root, as DreamerV2 and PlaNet did;
            "standard" adds it after the bias correction, as the paper on Adam does; "laprop"
            divides by the root first and averages what comes out, as DreamerV3 does
            (arXiv:2002.04839).
        lr_schedule: What the learning rate is multiplied by, a string: a number, or
            "linear(1,0.1,5000)", "warmup(1000,1)", "exp(1,0.1,2000)" of the updates done so far,
            one after the other as in "warmup(1000,1) then cosine(1,0,1e5)".
        agc: Largest norm of the gradient of an array, as a share of the array's own norm
            (adaptive gradient clipping, by array as in DreamerV3); 0 does not clip.
        decay: "all" decays all weights, biases and norms included, by ``weight_decay`` itself, as
            DreamerV2 did; "kernels" only arrays of two or more axes, by it times the learning
            rate, as DreamerV3 does.
        nesterov: Whether LaProp's average looks one step ahead.
        rates: What the learning rate of some parameters is multiplied by, by the name of their
            component or layer, such as ``{rssm: 0.3}``; of names one in the other, both count.
    """

    lr: NonNegative = 3e-4
    eps: NonNegative = 1e-5
    clip: NonNegative = 100.0
    weight_decay: Share = 1e-6
    beta1: Share = 0.9
    beta2: Share = 0.999
    adam: Literal["tensorflow", "standard", "laprop"] = "tensorflow"
    lr_schedule: str = "1"
    agc: NonNegative = 0.0
    decay: Literal["all", "kernels"] = "all"
    nesterov: bool = False
    rates: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        check_schedules(self, "lr_schedule")
        if self.nesterov and self.adam != "laprop":
            refuse(self, f"{AT}nesterov needs {AT}adam laprop, not {self.adam}")
        for name, rate in self.rates.items():
            fault = Range(0).fault(rate) or Kind(float).fault(rate)
            if fault:
                refuse(self, f"{AT}rates.{name} {fault}")


class OptimizerState(NamedTuple):
    """State of one optimiser.

    Attributes:
        inner: State of the Optax chain.
        skipped: Updates left out so far because a gradient was not finite, int32.
    """

    inner: optax.OptState
    skipped: Array


class Optimizer(NamedTuple):
    """A pair of pure functions.

    Attributes:
        init: ``init(params) -> OptimizerState``.
        update: ``update(grads, state, params) -> (params, OptimizerState, metrics)``.
    """

    init: Callable[[Params], OptimizerState]
    update: Callable[[Params, OptimizerState, Params], tuple[Params, OptimizerState, dict]]


def make_optimizer(config: OptimizerConfig) -> Optimizer:
    """Builds the optimiser: clip the gradients, decay the weights, step with Adam or LaProp.

    ``update`` leaves parameters and state as they were where the global norm of the
    gradients is not finite, and counts that. Its metrics are ``grad_norm`` (before
    clipping) and ``grad_skipped`` (updates left out so far).

    The V2 presets follow their reference in two disputable choices, because the
    published scores come from them: epsilon on the uncorrected root, and a weight
    decay not scaled by the learning rate.
    """
    chain = gradient_transformation(config)

    def init(params: Params) -> OptimizerState:
        return OptimizerState(chain.init(params), jnp.zeros((), jnp.int32))

    def update(
        grads: Params, state: OptimizerState, params: Params
    ) -> tuple[Params, OptimizerState, dict[str, Array]]:
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm)
        step, inner = chain.update(grads, state.inner, params)
        proposed = (optax.apply_updates(params, step), inner)
        params, inner = _select(finite, proposed, (params, state.inner))
        skipped = state.skipped + (1 - finite.astype(jnp.int32))
        metrics = {"grad_norm": norm, "grad_skipped": skipped}
        return params, OptimizerState(inner, skipped), metrics

    return Optimizer(init, update)


def gradient_transformation(config: OptimizerConfig) -> optax.GradientTransformation:
    """Returns the Optax chain alone, without the test for finite gradients.

    The decay comes last and adds ``-weight_decay * w`` to the step, which is the same as
    multiplying the weights before the Adam step, since Adam does not look at them.
    """
    factor = parse_schedule(config.lr_schedule)
    decay = optax.add_decayed_weights
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        *([clip_by_share(config.agc)] if config.agc else []),
        _direction(config),
        *([decay(config.weight_decay, _are_kernels)] if config.decay == "kernels" else []),
        # A constant needs no count of updates, which checkpoints of 0.1 lack.
        optax.scale(-config.lr)
        if config.lr_schedule == "1"
        else optax.scale_by_schedule(lambda count: -config.lr * factor(count)),
        decay(-config.weight_decay)
        if config.weight_decay and config.decay == "all"
        else optax.identity(),
        *([scale_by_name(config.rates)] if config.rates else []),
    )


def _direction(config: OptimizerConfig) -> optax.GradientTransformation:
    beta1, beta2, eps = config.beta1, config.beta2, config.eps
    if config.adam == "laprop":
        return scale_by_laprop(beta1, beta2, eps, config.nesterov)
    if config.adam == "standard":
        return optax.scale_by_adam(beta1, beta2, eps)
    return scale_by_tensorflow_adam(beta1, beta2, eps)


def _are_kernels(params: Params) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def clip_by_share(share: float, least: float = 1e-3) -> optax.GradientTransformation:
    """Returns adaptive gradient clipping by whole arrays.

    ``g / max(1, |g| / (share max(least, |w|)))`` for an array g of gradients and its weights w,
    with norms over all of the array (arXiv:2102.06171 has them by unit).

    Args:
        share: Largest norm of a gradient, by that of its array.
        least: Norm that is assumed of arrays with a smaller one.
    """

    def clip(grad: Array, weight: Array) -> Array:
        limit = share * jnp.maximum(least, jnp.linalg.norm(weight.ravel()))
        return grad / jnp.maximum(1.0, jnp.linalg.norm(grad.ravel()) / limit)

    return optax.stateless(lambda grads, params: jax.tree.map(clip, grads, params))


def scale_by_name(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Returns a scaling of the steps of parameters by the names on the way to them.

    Args:
        rates: Factors by name: a key of the nested parameters, or a part of one, as Haiku joins
            the names of modules by slashes.

    Raises:
        UserError: On the first use, of a name that no parameter has.
    """

    def factors(params: Params) -> Params:
        seen: set[str] = set()

        def factor(path: tuple[Any, ...], leaf: Array) -> float:
            names = {name for entry in path for name in str(entry.key).split("/")}
            seen.update(names)
            return math.prod(rate for name, rate in rates.items() if name in names)

        found = jax.tree_util.tree_map_with_path(factor, params)
        for name in rates:
            if name not in seen:
                raise UserError(
                    f"rates names {name!r}, which no parameter has{nearest(name, seen)}"
                )
        return found

    def scale(steps: Params, params: Params | None) -> Params:
        return jax.tree.map(jnp.multiply, steps, factors(steps))

    return optax.stateless(scale)


def scale_by_laprop(
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-20, nesterov: bool = False
) -> optax.GradientTransformation:
    """Returns LaProp's scaling (arXiv:2002.04839): Adam with division before the average.

    For t from 1::

        v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
        u_t = g_t / (sqrt(v_t / (1 - beta2^t)) + eps)
        m_t = beta1 m_{t-1} + (1 - beta1) u_t
        step = m_t / (1 - beta1^t)

    With ``nesterov`` the step has beta1 m_t + (1 - beta1) u_t in the place of m_t.
    """

    def update(
        grads: Params, state: optax.ScaleByAdamState, params: Params | None = None
    ) -> tuple[Params, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        square = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g**2, state.nu, grads)
        root = jax.tree.map(lambda v: jnp.sqrt(v / (1 - beta2**count)) + eps, square)
        unit = jax.tree.map(jnp.divide, grads, root)
        average = lambda m, u: beta1 * m + (1 - beta1) * u  # noqa: E731
        mean = jax.tree.map(average, state.mu, unit)
        ahead = jax.tree.map(average, mean, unit) if nesterov else mean
        step = jax.tree.map(lambda m: m / (1 - beta1**count), ahead)
        return step, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(_initial_moments, update)


def scale_by_tensorflow_adam(
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-5
) -> optax.GradientTransformation:
    """Returns Adam's scaling with epsilon on the uncorrected root.

    ``m sqrt(1 - beta2^t) / ((1 - beta1^t) (sqrt(v) + eps))``, t from 1: the form at the end of
    section 2 of arXiv:1412.6980, which TensorFlow implements. It equals the usual form with
    an epsilon of ``eps / sqrt(1 - beta2^t)``, 31.6 times larger in the first step.
    """

    def update(
        grads: Params, state: optax.ScaleByAdamState, params: Params | None = None
    ) -> tuple[Params, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mean = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mu, grads)
        square = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g**2, state.nu, grads)
        correction = jnp.sqrt(1 - beta2**count) / (1 - beta1**count)
        step = jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + eps), mean, square)
        return step, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(_initial_moments, update)


def _initial_moments(params: Params) -> optax.ScaleByAdamState:
    # Two sets of zeros: one buffer cannot be donated twice.
    mean, square = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mean, square)


def _select(condition: Array, chosen: Any, otherwise: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), chosen, otherwise)
