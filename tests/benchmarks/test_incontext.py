"""Learning in a context: the rooms, the source's histories, what the transformer may see."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.incontext import command, learning, source, world
from benchmarks.incontext.policy import (
    INPUTS,
    PolicyConfig,
    act_in_context,
    cross_entropy,
    history_tokens,
    make_policy,
    make_tokens,
)
from common.errors import UserError
from tests.tiny import random_params

SMALL = PolicyConfig(width=8, layers=2, heads=2, units=8, episodes=3, batch=2, updates=2)
STEPS = 4
GOALS = np.array([0, 13, 40, 80])


@pytest.fixture(name="policy", scope="module")
def _policy():
    made = make_policy(SMALL, STEPS)
    return made._replace(logits=jax.jit(made.logits), step=jax.jit(made.step))


@pytest.fixture(name="params", scope="module")
def _params(policy):
    """Large enough for what is attended to to matter, biases of distances too."""
    return jax.tree.map(lambda x: 8 * x, random_params(policy.init))


def tokens(amount, length, seed=0):
    return np.random.default_rng(seed).normal(size=(amount, length, INPUTS)).astype(np.float32)


def test_walls_stop_and_goals_reward():
    for cell in (0, 4, 40, 80):
        for action, (down, right) in enumerate(world.MOVES):
            row, column = divmod(cell, world.SIDE)
            row = min(max(row + down, 0), world.SIDE - 1)
            column = min(max(column + right, 0), world.SIDE - 1)
            after, reward = world.step(np.array([cell]), np.array([action]), np.array([4]))
            assert after[0] == row * world.SIDE + column
            assert reward[0] == (after[0] == 4)


def test_goals_are_split_and_the_middle_is_none():
    train, test = world.split_goals(15, seed=3)
    assert len(test) == 15 and len(train) == 65
    assert sorted([*train, *test, world.MIDDLE]) == list(range(world.CELLS))
    assert (world.split_goals(15, seed=4)[1] != test).any()


def test_returns_that_are_known():
    stay = world.play(np.array([world.MIDDLE]), lambda cells: np.zeros(1, int))
    assert stay.rewards.sum() == world.STEPS == command.best_return(np.array([world.MIDDLE])) - 1
    down = world.play(
        np.array([world.MIDDLE + 2 * world.SIDE]),
        lambda cells: (cells < world.MIDDLE + 2 * world.SIDE).astype(int),
    )
    assert down.rewards.sum() == command.best_return(np.array([world.MIDDLE + 2 * world.SIDE]))
    rng, goals = np.random.default_rng(0), np.repeat(GOALS, 4000)
    played = world.play(goals, lambda cells: rng.integers(world.ACTIONS, size=len(cells)))
    each = played.rewards.sum(1)
    wanted = source.random_return(GOALS)
    assert abs(each.mean() - wanted) < 4 * each.std() / np.sqrt(len(goals))


@pytest.fixture(name="histories", scope="module")
def _histories():
    return source.learn(GOALS, episodes=60, seed=0)


def test_the_source_learns_what_a_slow_table_learns(monkeypatch):
    """One room and one step at a time, with the same first tables and no random actions."""
    monkeypatch.setattr(source, "CHANCE", 0.0)
    found = source.learn(GOALS[:2], episodes=4, seed=5)
    shape = len(GOALS[:2]), world.CELLS, world.ACTIONS
    tables = source.FIRST + 1e-3 * np.random.default_rng(5).random(shape)
    for room, table in enumerate(tables):
        for episode in range(4):
            cell = world.MIDDLE
            for t in range(world.STEPS):
                action = int(table[cell].argmax())
                assert (found.cells[room, episode, t], found.actions[room, episode, t]) == (
                    cell, action
                )  # fmt: skip
                after, reward = world.step(
                    np.array([cell]), np.array([action]), GOALS[room : room + 1]
                )
                target = reward[0] + source.DISCOUNT * table[after[0]].max()
                table[cell, action] += source.RATE * (target - table[cell, action])
                cell = int(after[0])


def test_the_source_improves(histories):
    early, late = histories.returns[:, :5].mean(), histories.returns[:, -5:].mean()
    assert late > 2 * early and late > 0.5 * command.best_return(GOALS)


def test_histories_keep_their_order_and_their_stride(histories):
    """Every episode is marked by its number in place of what happened in it."""
    numbers = np.broadcast_to(np.arange(60)[None, :, None], histories.cells.shape)
    marked = histories._replace(cells=numbers, rewards=histories.rewards * 0 + numbers)
    rng, starts = np.random.default_rng(0), set()
    for _ in range(20):
        found = source.strided(marked, 6, 10, rng)
        assert found.cells.shape == (4, 10, world.STEPS)
        first = found.cells[:, 0, 0]
        starts |= set(first.tolist())
        wanted = first[:, None] + 6 * np.arange(10)
        np.testing.assert_array_equal(found.cells, np.repeat(wanted[..., None], world.STEPS, 2))
        np.testing.assert_array_equal(found.rewards, found.cells)
    assert starts == set(range(6))
    assert source.last(marked, 50, rng).cells.min() >= 48
    goals = source.draw(histories, 9, rng)
    for one in range(9):
        place = int(np.flatnonzero(GOALS == goals.goals[one])[0])
        np.testing.assert_array_equal(goals.actions[one], histories.actions[place])


def test_tokens_say_what_came_before(histories):
    found, actions = history_tokens(histories)
    assert found.shape == (4, 60 * world.STEPS, INPUTS) and actions.shape == found.shape[:2]
    for t in (0, 1, world.STEPS - 1, world.STEPS, 3 * world.STEPS + 2):
        episode, step = divmod(t, world.STEPS)
        for room in range(4):
            cell = histories.cells[room, episode, step]
            wanted = np.zeros(INPUTS)
            wanted[cell // world.SIDE] = wanted[world.SIDE + cell % world.SIDE] = 1
            if t:
                before = divmod(t - 1, world.STEPS)
                wanted[2 * world.SIDE + histories.actions[room][before]] = 1
                wanted[-2] = histories.rewards[room][before]
            wanted[-1] = step == 0
            np.testing.assert_array_equal(found[room, t], wanted)
            assert actions[room, t] == histories.actions[room, episode, step]


def test_nothing_later_is_seen_and_all_that_is_earlier(policy, params):
    length = SMALL.episodes * STEPS
    given = tokens(2, length)
    before = np.asarray(policy.logits(params, given))
    for place in (0, 5, length - 1):
        changed = given.copy()
        changed[0, place] += 1
        after = np.asarray(policy.logits(params, changed))
        np.testing.assert_array_equal(after[0, :place], before[0, :place])
        np.testing.assert_array_equal(after[1], before[1])  # Nor another history.
        assert (np.abs(after[0, place:] - before[0, place:]).max(1) > 1e-4).all()


def test_single_steps_say_what_a_whole_context_says(policy, params):
    length = SMALL.episodes * STEPS
    given = tokens(2, length)
    wanted, memory = policy.logits(params, given), policy.initial(2)
    for t in range(length):
        logits, memory = policy.step(params, memory, given[:, t])
        np.testing.assert_allclose(logits, wanted[:, t], rtol=1e-4, atol=1e-4)
        assert memory.valid.shape == (2, length - 1)
        assert memory.valid.sum() == 2 * min(t + 1, length - 1)


def test_a_memory_is_as_long_as_a_context():
    """With one layer, the oldest of the steps before counts for nothing as soon as it is full."""
    one = make_policy(dataclasses.replace(SMALL, layers=1, episodes=1), STEPS)
    params = jax.tree.map(lambda x: 8 * x, random_params(one.init))
    given, step = tokens(1, STEPS + 1), jax.jit(one.step)
    other = given.copy()
    other[:, 0] += 1
    ends = []
    for row in (given, other):
        memory, logits = one.initial(1), []
        for t in range(STEPS + 1):
            found, memory = step(params, memory, row[:, t])
            logits.append(np.asarray(found))
        ends.append(logits)
    assert np.abs(ends[0][STEPS - 1] - ends[1][STEPS - 1]).max() > 1e-4
    np.testing.assert_array_equal(ends[0][STEPS], ends[1][STEPS])


def test_the_loss_is_a_mean_over_steps():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5))
    actions = np.array([[0, 4, 2], [1, 1, 3]])
    each = [
        np.log(np.exp(logits[n, t]).sum()) - logits[n, t, actions[n, t]]
        for n in range(2)
        for t in range(3)
    ]
    np.testing.assert_allclose(
        cross_entropy(jnp.asarray(logits), actions), np.mean(each), rtol=1e-5
    )


def test_acting_in_context_is_a_slow_loop(policy, params, monkeypatch):
    """One room at a time, whole contexts in the place of a memory, the best action for a drawn."""
    monkeypatch.setattr(world, "STEPS", STEPS)
    monkeypatch.setattr(jax.random, "categorical", lambda key, logits: logits.argmax(-1))
    goals = np.array([world.MIDDLE, world.MIDDLE + 1, 31])
    found = act_in_context(policy, params, goals, SMALL.episodes, seed=0)
    assert found.shape == (3, SMALL.episodes)
    for room, goal in enumerate(goals):
        seen, action, reward = [], -1, 0.0
        for episode in range(SMALL.episodes):
            cell, total = world.MIDDLE, 0.0
            for t in range(STEPS):
                seen.append(make_tokens(np.array(cell), np.array(action), reward, t == 0))
                padded = np.zeros((1, SMALL.episodes * STEPS, INPUTS), np.float32)
                padded[0, : len(seen)] = seen  # What follows is not seen.
                logits = np.asarray(policy.logits(params, padded))[0, len(seen) - 1]
                action = int(logits.argmax())
                after, rewards = world.step(np.array([cell]), np.array([action]), np.array([goal]))
                cell, reward = int(after[0]), float(rewards[0])
                total += reward
            assert found[room, episode] == total


def test_actions_are_drawn_anew_in_every_step(policy, params):
    """Rooms and episodes differ where predictions do not; no key draws twice."""
    flat = jax.tree.map(jnp.zeros_like, params)
    goals = np.repeat(world.MIDDLE, 20)
    with jax.debug_key_reuse(True):
        returns = act_in_context(policy, flat, goals, 2, seed=0)
    assert len(set(returns[:, 0])) > 3 and (returns[:, 0] != returns[:, 1]).any()
    again = act_in_context(policy, flat, goals, 2, seed=0)
    np.testing.assert_array_equal(returns, again)
    assert (act_in_context(policy, flat, goals, 2, seed=1) != returns).any()


@pytest.mark.parametrize("kind", command.KINDS)
def test_both_kinds_of_histories_are_learned(kind, histories):
    """Tiny, for a moment: what is predicted gets likelier, and batches have the right parts."""
    config = dataclasses.replace(SMALL, updates=60, lr=2e-2, episodes=2, batch=16, layers=1)
    policy, said = make_policy(config, world.STEPS), []
    params, losses = learning.distil(kind, policy, histories, config, 0, said.append)
    assert len(losses) == 60 and np.mean(losses[-20:]) < 0.8 * np.mean(losses[:5])
    assert "update 60 of 60" in said[-1] and "0:00:00 left" in said[-1]
    drawn, _ = learning.contexts(kind, histories, config, np.random.default_rng(0))
    assert drawn.shape == (16, 2 * world.STEPS, INPUTS)


def test_the_command_records_shows_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "PolicyConfig", lambda: SMALL)
    monkeypatch.setattr(command, "COPIES", 1)
    monkeypatch.setattr(command, "EPISODES", 15)
    monkeypatch.setattr(command.measure, "__defaults__", (1, 15))
    words = ["incontext", "--seeds", "3", "--updates", "1", "--results", str(tmp_path)]
    assert main(words) == 0
    lines = [json.loads(line) for line in (tmp_path / command.RECORD).read_text().splitlines()]
    assert [one["kind"] for one in lines] == list(command.KINDS)
    for one in lines:
        assert len(one["held_out"]) == len(one["training"]) == 3 and len(one["source"]) == 15
        assert 0 < one["random"] < one["best"] < world.STEPS and one["seed"] == 3
    np.testing.assert_allclose(
        command.strided_source(lines[0])[0], np.mean(lines[0]["source"][:5]), rtol=1e-6
    )
    shown = capsys.readouterr().out
    assert f"| {command.KINDS['histories']} | 1 | {lines[0]['held_out'][0]:.2f} | " in shown
    assert (tmp_path / command.PICTURE).stat().st_size > 10_000
    assert main(words) == 0 and ">> seed" not in capsys.readouterr().out
    assert main([*words[:-3], "2", *words[-2:]]) == 2
    assert "holds seed 3 with other options" in capsys.readouterr().err
    for wrong, message in [
        (["--updates", "0"], "--updates is 0; expected at least 1"),
        (["--seeds", "-1"], "--seeds holds -1"),
        (["--table", "--results", str(tmp_path / "none")], "holds no run yet"),
    ]:
        assert main(["incontext", *wrong]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="width"):
        PolicyConfig(width=9, heads=2)
