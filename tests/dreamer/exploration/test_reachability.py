"""Episodic curiosity: labels, loss and memory, against slow loops."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamer.exploration.config import CuriosityConfig
from dreamer.exploration.memory import empty_episodes, remember, similarity
from dreamer.exploration.reachability import (
    Pairs,
    comparator_loss,
    draw_pairs,
    make_comparator,
)
from tests.reference import exploration as reference

BATCH, TIME = 40, 20


def flags(seed=0, share=0.08):
    is_first = np.random.default_rng(seed).random((BATCH, TIME)) < share
    is_first[::2, 0] = True
    return is_first


@pytest.mark.parametrize("steps, gap", [(1, 1), (2, 3), (3, 5)])
def test_labels_are_those_of_the_slow_loop(steps, gap):
    is_first, seen = flags(), {True: set(), False: set()}
    possible = {True: set(), False: set()}
    for seed in range(30):
        noise = np.random.default_rng(seed).random((2, BATCH, TIME)).astype(np.float32)
        pairs = jax.device_get(draw_pairs(noise, is_first, steps, gap))
        for b in range(BATCH):
            for i in range(TIME):
                labels = [reference.reachable(is_first[b], i, j, steps, gap) for j in range(TIME)]
                for label, found, counts in (
                    (True, pairs.near, pairs.near_counts),
                    (False, pairs.far, pairs.far_counts),
                ):
                    assert counts[b, i] == (label in labels)
                    if counts[b, i]:
                        assert labels[found[b, i]] is label
                        seen[label].add((b, i, int(found[b, i])))
                    if not seed:
                        possible[label] |= {(b, i, j) for j in range(TIME) if labels[j] is label}
    # All that may be drawn is drawn.
    assert all(len(seen[label]) > 0.85 * len(possible[label]) for label in (True, False))


def test_the_least_rows_of_a_window_hold_one_far_pair():
    config = CuriosityConfig(steps=2, gap=3)
    for rows, there in ((config.least_rows, True), (config.least_rows - 1, False)):
        is_first = np.zeros((1, rows), bool)
        pairs = draw_pairs(np.zeros((2, 1, rows), np.float32), is_first, 2, 3)
        assert pairs.far_counts.any() == there


def test_the_loss_weighs_both_kinds_alike():
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(2, BATCH, TIME))
    counts = rng.random((2, BATCH, TIME)) < np.array([0.9, 0.1])[:, None, None]
    pairs = Pairs(None, None, *counts)
    value, metrics = comparator_loss(jnp.asarray(near), jnp.asarray(far), pairs)
    probability = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    right = [-np.log(probability(x)) for x in near[counts[0]]]
    wrong = [-np.log(1 - probability(x)) for x in far[counts[1]]]
    np.testing.assert_allclose(value, 0.5 * np.mean(right) + 0.5 * np.mean(wrong), rtol=1e-5)
    np.testing.assert_allclose(metrics["near_right"], (near[counts[0]] > 0).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["far_right"], (far[counts[1]] < 0).mean(), rtol=1e-6)


def test_windows_without_far_rows_are_no_error():
    pairs = Pairs(None, None, np.ones((1, 3), bool), np.zeros((1, 3), bool))
    value, _ = comparator_loss(jnp.zeros((1, 3)), jnp.zeros((1, 3)), pairs)
    np.testing.assert_allclose(value, 0.5 * np.log(2), rtol=1e-6)


def test_the_comparator_learns_which_places_of_a_walk_are_near():
    """On a ring of places, in which a walk goes round, with noise beside them."""
    comparator = make_comparator(CuriosityConfig(layers=2, units=32), 6, "float32")
    params, opt = comparator.init(jax.random.key(0)), optax.adam(3e-3)

    def place(step):
        angle = step / 40 * 2 * np.pi
        return np.stack([np.sin(angle), np.cos(angle)], -1)

    @jax.jit
    def learn(params, state, walks, noise):
        def loss(params):
            pairs = draw_pairs(noise, jnp.zeros(walks.shape[:2], bool), 2, 3)
            rows = jnp.arange(len(walks))[:, None]
            near, far = (
                comparator.compare(params, walks, walks[rows, other])
                for other in (pairs.near, pairs.far)
            )
            return comparator_loss(near, far, pairs)

        grads, metrics = jax.grad(loss, has_aux=True)(params)
        steps, state = opt.update(grads, state)
        return optax.apply_updates(params, steps), state, metrics

    rng, state = np.random.default_rng(0), opt.init(params)
    for _ in range(250):
        steps = rng.integers(40, size=(16, 1)) + np.arange(20)
        noise = rng.normal(size=(16, 20, 4))
        walks = np.concatenate([place(steps), noise], -1).astype(np.float32)
        uniforms = rng.random((2, 16, 20)).astype(np.float32)
        params, state, metrics = learn(params, state, walks, uniforms)
    assert metrics["near_right"] > 0.9 and metrics["far_right"] > 0.9


@pytest.mark.parametrize("percentile", [0.0, 50.0, 90.0, 100.0])
def test_similarity_is_the_percentile_of_what_is_there(percentile):
    rng = np.random.default_rng(0)
    scores = rng.random((11, 10)).astype(np.float32)
    found = similarity(jnp.asarray(scores), jnp.arange(11), percentile)
    slow = [0.0] + [np.percentile(scores[n, :n], percentile) for n in range(1, 11)]
    np.testing.assert_allclose(found, slow, rtol=1e-5)


def compare(x, y):
    """Near is what is less than about one apart."""
    return 4 * (1 - jnp.abs(x - y).sum(-1))


@pytest.mark.parametrize("replacement", ["random", "fifo"])
def test_the_memory_follows_the_slow_loop(replacement):
    """Whatever is taken in, and when an episode ends; it fills up, and then some are replaced."""
    config = CuriosityConfig(slots=4, percentile=60, threshold=0.4, replacement=replacement)
    rng, envs = np.random.default_rng(0), 3

    def probability(one, other):
        return 1 / (1 + np.exp(-4 * (1 - np.abs(one - other).sum())))

    slow = [reference.Memory(probability, 4, 0.4, 60, replacement) for _ in range(envs)]
    memory, first, full = empty_episodes(config, envs, 2), np.ones(envs, bool), 0
    step = jax.jit(lambda *args: remember(config, compare, *args))
    for _ in range(150):
        embed = (2 * rng.normal(size=(envs, 2))).astype(np.float32)
        last = (rng.random(envs) < 0.05) & ~first
        noise = rng.random(envs).astype(np.float32)
        memory = step(memory, embed, {"is_first": first, "is_last": last}, noise)
        wanted = [one.step(*now) for one, *now in zip(slow, embed, first, last, noise, strict=True)]
        np.testing.assert_allclose(memory.note[:, 0], wanted, atol=1e-5)
        np.testing.assert_array_equal(memory.note[:, 1], ~first)
        for env, one in enumerate(slow):
            held = min(int(memory.taken[env]), 4)
            np.testing.assert_array_equal(memory.embeddings[env, :held], one.held)
            full += memory.taken[env] > 4
        first = last
    assert full > 100


def test_nothing_familiar_is_taken_in():
    config = dataclasses.replace(CuriosityConfig(), slots=5)
    memory, rows = empty_episodes(config, 1, 2), {"is_last": np.zeros(1, bool)}
    for step in range(4):
        first = {"is_first": np.full(1, step == 0)}
        memory = remember(config, compare, memory, jnp.zeros((1, 2)), rows | first, jnp.zeros(1))
    assert memory.taken.tolist() == [1]
    assert memory.note[0, 0] < -0.4
