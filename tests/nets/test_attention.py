"""Layers over several memories: sharing one, and cutting one in pieces, changes nothing."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from common.nets.attention import KeysAndValues, make_layer
from tests.tiny import random_params

ROWS, SHARING, STEPS, WIDTH, HEADS, GROUPS, LENGTH = 2, 3, 2, 12, 4, 2, 5


def attend(x, *memories):
    """One layer over some memories and the present token itself."""

    def run(x, memories):
        layer = make_layer("layer", width=WIDTH, heads=HEADS, kv_heads=GROUPS, units=8, window=4)
        present = jnp.eye(x.shape[1], dtype=bool)[None], jnp.zeros((x.shape[1],) * 2, int)

        def remember(keys, values):
            mask = jnp.broadcast_to(present[0], (x.shape[0], *present[0].shape[1:]))
            return (*memories, KeysAndValues(keys, values, mask, present[1]))

        return layer(x, remember)[0]

    network = hk.without_apply_rng(hk.transform(run))
    params = jax.tree.map(lambda w: 5 * w, random_params(network.init, x, memories))
    return jax.jit(network.apply)(params, x, memories)


def inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS * SHARING, STEPS, WIDTH)).astype(np.float32)
    shape = ROWS, GROUPS, LENGTH, WIDTH // HEADS
    keys, values = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    mask = rng.uniform(size=(ROWS, STEPS, LENGTH)) < 0.6
    distance = rng.integers(0, 7, (STEPS, LENGTH))
    return x, KeysAndValues(keys, values, mask, distance)


def test_a_shared_memory_equals_copies_of_it():
    x, memory = inputs()
    copies = [np.repeat(part, SHARING, 0) for part in memory[:3]]
    want = attend(x, KeysAndValues(*copies, memory.distance))
    np.testing.assert_allclose(attend(x, memory), want, atol=1e-5)
    other = attend(x, memory._replace(values=memory.values + 1))
    assert (np.abs(other - want) > 1e-3).any((1, 2)).all()


def test_two_memories_equal_one():
    x, memory = inputs()
    pieces = []
    for part in (slice(0, 2), slice(2, None)):
        keys, values = (array[:, :, part] for array in memory[:2])
        pieces.append(KeysAndValues(keys, values, memory.mask[..., part], memory.distance[:, part]))
    np.testing.assert_allclose(attend(x, *pieces), attend(x, memory), atol=1e-5)


def test_all_queries_may_have_one_mask_and_hidden_keys_change_nothing():
    x, memory = inputs()
    mask = memory.mask[:, :1]
    want = attend(x, memory._replace(mask=np.repeat(mask, STEPS, 1)))
    np.testing.assert_allclose(attend(x, memory._replace(mask=mask)), want, atol=1e-6)
    hidden = np.where(mask[:, 0, None, :, None], memory.keys, 1e3)
    np.testing.assert_array_equal(
        attend(x, memory._replace(mask=mask, keys=hidden)), attend(x, memory._replace(mask=mask))
    )
