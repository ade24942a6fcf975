"""Every agent's update is compiled for the platform that it runs on, whatever traced it."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from benchmarks.speed import workloads
from common.nets import conv
from common.nets.layers import block_dense
from tests.lowered import loops_of, operations

CONVOLUTIONS = 23
"""Of an encoder and a decoder of four layers each, with their gradients: three for each layer but
the first, whose image needs none."""
OPERATIONS = {
    "float32": {
        "dmc_vision": 630,
        "atari": 413,
        "quickstart": 551,
        "proprio": 630,
        "proprio_v3": 699,
        "vision_v3": 699,
        "atari100k_v3": 718,
        "small": 602,
        "planet": 161,
    },
    "bfloat16": {
        "dmc_vision": 708,
        "atari": 454,
        "quickstart": 621,
        "proprio": 708,
        "proprio_v3": 789,
        "vision_v3": 789,
        "atari100k_v3": 805,
        "small": 672,
        "planet": 166,
        "tdmpc2": 0,
    },
    "bfloat16_products": {"dmc_vision": 718, "proprio_v3": 787, "planet": 203, "tdmpc2": 0},
}
"""Most operations in the bodies of an update's loops, of which kernels are made: 12 in a hundred
more before gradients of weights were taken outside. TD-MPC2 has no loop, and the token-level model
has float32 alone. Products alone are for CPUs: one agent of each kind will do."""
CASES = [(name, "float32") for name in workloads.SHAPES]
CASES += [(name, low) for low in list(OPERATIONS)[1:] for name in OPERATIONS[low]]


@pytest.mark.parametrize("name, precision", CASES)
def test_updates_lower_for_cuda(name: str, precision: str):
    """With XLA's convolutions, none of them in a loop, in the number format that was asked for."""
    shape = workloads.SHAPES[name]
    options = {**shape.options, "world_model.precision": precision}
    shape = dataclasses.replace(shape, options=options)
    agent, rows = shape.agent(), workloads.make_batch(shape, shape.config())
    state = jax.eval_shape(agent.init, jax.random.key(0))
    traced = jax.jit(agent.update).trace(state, jax.random.key(1), rows)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    pixels = any(spec.kind == "image" for spec in shape.observations.values())
    assert text.count("stablehlo.convolution") == (CONVOLUTIONS if pixels else 0)
    loops = loops_of(text)
    assert len(loops) == text.count("stablehlo.while")
    assert not any("stablehlo.convolution" in body for body in loops)
    assert sum(map(operations, loops)) <= OPERATIONS[precision].get(name, 0)
    low = len(re.findall(r"(?:dot_general|stablehlo\.convolution).*bf16", text))
    # Encoder, dynamics, heads, actor and critic, forwards and backwards.
    assert low == 0 if precision == "float32" else low > 40


def test_a_convolution_in_a_loop_would_be_found():
    images, kernel = jnp.ones((3, 2, 8, 8, 3)), jnp.ones((4, 4, 3, 5))
    looped = jax.jit(lambda x: jax.lax.map(lambda one: conv.conv2d(one, kernel), x))
    text = looped.trace(images).lower(lowering_platforms=("cuda",)).as_text()
    assert ["stablehlo.convolution" in body for body in loops_of(text)] == [True]


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_platform_counts_and_not_the_default_one(backend: str, monkeypatch):
    """Where a GPU is the default, a function compiled for the CPU multiplies; and the reverse."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    image, kernel = jnp.ones((64, 16, 16, 3)), jnp.ones((4, 4, 3, 8))
    blocks = jnp.ones((512, 16)), jnp.ones((4, 4, 4))

    def both(image, kernel, blocks):
        gradient = jax.grad(lambda kernel: conv.conv2d(image, kernel).sum())(kernel)
        return gradient, block_dense(*blocks)

    traced = jax.jit(both).trace(image, kernel, blocks)
    texts = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert [text.count("stablehlo.convolution") for text in texts.values()] == [0, 1, 1]
    batched = [text.count("batching_dims = [0]") for text in texts.values()]
    assert batched[0] == 0 and batched[1] == batched[2] > 0
