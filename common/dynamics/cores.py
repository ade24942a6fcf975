"""The deterministic part of the recurrent state-space model: h' from z, h and a.

A core is a pure function of its weights, which are fetched from Haiku once, outside the scan over
time. What depends on the action alone is computed beforehand, for all steps in one product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common.dynamics.config import RSSMConfig
from common.nets.cells import make_cell
from common.nets.layers import ACTIVATIONS, INITS, NORMS, BlockDense, Dense, block_dense
from common.nets.products import product
from common.types import Array

Finish = Callable[[Array], Array]


class Core(NamedTuple):
    """The next deterministic state.

    Attributes:
        prepare: ``(action [..., A]) -> [..., X]``, all that the action has to do with it.
        step: ``(stoch [..., S K], deter [..., D], prepared [..., X]) -> deter [..., D]``.
    """

    prepare: Callable[[Array], Array]
    step: Callable[[Array, Array, Array], Array]


class Layer(NamedTuple):
    """A dense layer whose kernel is cut after the first input, with norm and activation.

    Attributes:
        kernels: One for each input ``[in, H]``.
        bias: ``[H]``.
        finish: What comes behind.
    """

    kernels: tuple[Array, ...]
    bias: Array
    finish: Finish

    def __call__(self, x: Array) -> Array:
        """Applies a layer that has one input."""
        return self.finish(product(x, self.kernels[0]) + self.bias)


def make_layer(config: RSSMConfig, name: str, *inputs: int) -> Layer:
    """Creates a hidden layer with one input or two, inside a Haiku transform."""
    dense = Dense(config.hidden, name=name, init=INITS[config.init])
    kernel, bias = dense.parameters(sum(inputs))
    kernels = kernel[: inputs[0]], kernel[inputs[0] :]
    return Layer(kernels[: len(inputs)], bias, make_finish(config, name, config.hidden))


def make_finish(config: RSSMConfig, name: str, size: int) -> Finish:
    """Creates the norm of a layer of some size; returns norm and activation."""
    act = ACTIVATIONS[config.activation]
    if config.norm == "none":
        return act
    module, normalise = NORMS[config.norm]
    weights = module(name=f"{name}_norm").parameters(size)
    return lambda x: act(normalise(x, *weights))


def make_core(config: RSSMConfig, stoch: int, action: int) -> Core:
    """Creates the weights of the core that ``config.cell`` names, inside a Haiku transform.

    Args:
        config: Sizes and kind.
        stoch: Entries of the flat stochastic latent.
        action: Entries of the flat action.
    """
    if config.cell == "block_gru":
        return _block_core(config, stoch, action)
    layer = make_layer(config, "img_in", stoch, action)
    cell = make_cell(config.cell, config.hidden, config.deter)

    def step(stoch: Array, deter: Array, prepared: Array) -> Array:
        return cell(layer.finish(product(stoch, layer.kernels[0]) + prepared), deter)

    return Core(lambda action: product(action, layer.kernels[1]) + layer.bias, step)


def _block_core(config: RSSMConfig, stoch: int, action: int) -> Core:
    """The core of DreamerV3 (arXiv:2301.04104), whose state is computed in g blocks.

    With φ a norm and an activation, h_k slice k of the state, W_k and U_k the blocks' kernels:

        a  <- a / max(1, |a|),  e_h = φ(W_h h),  e_z = φ(W_z z),  e_a = φ(W_a a)
        x  = φ([W_k [h_k; e_h; e_z; e_a]]_k)
        [r, c, u]_k = U_k x_k,  r' = σ(r), c' = tanh(r' ⊙ c), u' = σ(u − 1)
        h' = u' ⊙ c' + (1 − u') ⊙ h

    The norm of x is over all blocks; ``cell_layers`` more of such layers may follow the first. No
    gradient goes through the |a| by which large actions are divided.
    """
    size, hidden, blocks = config.deter, config.hidden, config.blocks
    from_state = make_layer(config, "block_gru_deter", size)
    from_stoch = make_layer(config, "block_gru_stoch", stoch)
    from_action = make_layer(config, "block_gru_action", action)
    first = BlockDense(size, blocks, config.init, "block_gru0")
    kernel, bias = first.parameters(size + 3 * hidden * blocks)
    own, shared = jnp.split(kernel, [size // blocks], axis=1)
    # What all blocks read is multiplied by one kernel, [3 hidden, D].
    shared = jnp.swapaxes(shared, 0, 1).reshape(3 * hidden, size)
    finish = make_finish(config, "block_gru0", size)
    later = [
        (
            *BlockDense(size, blocks, config.init, f"block_gru{i}").parameters(size),
            make_finish(config, f"block_gru{i}", size),
        )
        for i in range(1, config.cell_layers)
    ]
    gates = BlockDense(3 * size, blocks, config.init, "block_gru_gates").parameters(size)
    gates = list(zip(*(_thirds(x, blocks) for x in gates), strict=True))

    def prepare(action: Array) -> Array:
        action = action / jax.lax.stop_gradient(jnp.maximum(1, jnp.abs(action)))
        return product(from_action(action), shared[2 * hidden :]) + bias

    def step(stoch: Array, deter: Array, prepared: Array) -> Array:
        both = jnp.concatenate([from_state(deter), from_stoch(stoch)], -1)
        x = finish(block_dense(deter, own) + product(both, shared[: 2 * hidden]) + prepared)
        for kernel, bias, finish_later in later:
            x = finish_later(block_dense(x, kernel) + bias)
        reset, candidate, update = (block_dense(x, kernel) + bias for kernel, bias in gates)
        update = jax.nn.sigmoid(update - 1)
        return update * jnp.tanh(jax.nn.sigmoid(reset) * candidate) + (1 - update) * deter

    return Core(prepare, step)


def _thirds(weights: Array, blocks: int) -> list[Array]:
    """Cuts what belongs to reset, candidate and update out of a kernel or a bias of all blocks."""
    if weights.ndim == 3:
        return jnp.split(weights, 3, -1)
    return [part.reshape(-1) for part in jnp.split(weights.reshape(blocks, -1), 3, -1)]


def make_stack(config: RSSMConfig, name: str, layers: int, *inputs: int) -> list[Layer]:
    """Creates hidden layers one after another, of which the first has the given inputs."""
    names = [name, *(f"{name}{i}" for i in range(1, layers))]
    return [make_layer(config, names[0], *inputs)] + [
        make_layer(config, one, config.hidden) for one in names[1:]
    ]
