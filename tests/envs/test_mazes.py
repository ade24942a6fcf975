"""Mazes, against a slow flood fill, and what they log, counted by hand."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from common.envs import EnvConfig, make, make_one
from common.envs.maze_pictures import SCREEN
from common.envs.mazes import (
    EPISODE,
    GOAL,
    LIFETIME,
    MOVES,
    NOISE,
    VISITS,
    WATCH,
    WATCHED,
    Layout,
    Maze,
)
from common.errors import UserError
from common.run.driver import Driver, RandomPolicy

TASK = "maze_goal"


def flood(is_open, start):
    """Steps to every cell, by going through all cells until nothing changes."""
    size = len(is_open)
    steps = np.full((size, size), np.inf)
    steps[start] = 0
    while True:
        before = steps.copy()
        for row in range(size):
            for column in range(size):
                for move, (down, right) in enumerate(MOVES):
                    if is_open[row, column, move]:
                        other = row + down, column + right
                        steps[other] = min(steps[other], steps[row, column] + 1)
        if (steps == before).all():
            return steps


@pytest.mark.parametrize("loops", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("size", [2, 5, 9])
def test_every_cell_is_reached_and_the_goal_is_the_most_distant(size, loops):
    for seed in range(4):
        layout = Layout(size, loops, np.random.default_rng(seed))
        steps = flood(layout.open, layout.start)
        np.testing.assert_array_equal(layout.distance, steps)
        assert steps[layout.goal] == steps.max() >= 2 * (size - 1)
        # Moves go both ways, and none out of the maze.
        assert not layout.open[0, :, 0].any() and not layout.open[:, 0, 3].any()
        np.testing.assert_array_equal(layout.open[1:, :, 0], layout.open[:-1, :, 2])
        np.testing.assert_array_equal(layout.open[:, 1:, 3], layout.open[:, :-1, 1])
        passages, between = layout.open.sum() // 2, 2 * size * (size - 1)
        if loops == 0:
            assert passages == size * size - 1  # A tree.
        assert loops < 1 or passages == between


def test_a_layout_is_that_of_its_seed_and_loops_are_more_with_a_larger_share():
    draw = lambda seed, loops=0.1: Layout(8, loops, np.random.default_rng(seed)).open  # noqa: E731
    np.testing.assert_array_equal(draw(3), draw(3))
    assert (draw(3) != draw(4)).any()
    assert draw(3, 0.0).sum() < draw(3, 0.1).sum() < draw(3, 0.5).sum()


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("television", [False, True])
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes")
def test_gymnasium_finds_no_fault(pixels, television):
    check_env(Maze(5, pixels=pixels, television=television))


def to_goal(layout):
    """The moves of a shortest way, backwards from the goal by the slow distances."""
    steps, cell, moves = flood(layout.open, layout.start), layout.goal, []
    while cell != layout.start:
        for move in range(4):
            back = (move + 2) % 4
            other = cell[0] + MOVES[back][0], cell[1] + MOVES[back][1]
            if layout.open[(*cell, back)] and steps[other] < steps[cell]:
                cell, moves = other, [move, *moves]
                break
    return moves


def test_the_goal_rewards_once_and_ends_the_episode():
    env = Maze(size=6, layout=2)
    env.reset(seed=0)
    results = [env.step(move) for move in to_goal(env.layout)]
    assert [result[1] for result in results] == [0.0] * (len(results) - 1) + [1.0]
    assert [result[2] for result in results] == [False] * (len(results) - 1) + [True]
    assert not any(result[3] for result in results)
    assert len(results) == env.layout.distance.max()


def test_a_wall_holds():
    env = Maze(size=4)
    before, _ = env.reset(seed=0)
    after, *_ = env.step(0)  # Up, out of the maze.
    np.testing.assert_array_equal(before, after)
    assert env.cell == env.layout.start


def test_vectors_say_the_place_and_which_moves_are_open():
    env = Maze(size=5, layout=1)
    seen = [env.reset(seed=0)[0]] + [env.step(move)[0] for move in to_goal(env.layout)]
    assert seen[0][:2].tolist() == [-1, -1]
    row, column = env.layout.goal
    np.testing.assert_allclose(seen[-1][:2], [row / 2 - 1, column / 2 - 1], atol=1e-6)
    np.testing.assert_array_equal(seen[-1][2:], env.layout.open[row, column])
    assert len({tuple(one) for one in seen}) == len(seen)  # Every cell looks different.


@pytest.mark.parametrize("pixels", [False, True])
def test_the_television_is_noise_while_it_is_watched_and_black_else(pixels):
    env = Maze(size=5, television=True, pixels=pixels)
    shown = (lambda x: x[64 - SCREEN :]) if pixels else (lambda x: x[-NOISE:])
    around = (lambda x: x[: 64 - SCREEN]) if pixels else (lambda x: x[:-NOISE])
    first, _ = env.reset(seed=0)
    rng, pictures = np.random.default_rng(0), []
    assert not shown(first).any()
    for _ in range(60):
        before, action = env.cell, int(rng.integers(5))
        seen, *_ = env.step(action)
        assert shown(seen).any() == (action == WATCH)
        if action == WATCH:
            assert env.cell == before
            pictures.append(shown(seen))
            np.testing.assert_array_equal(around(seen), around(env.step(WATCH)[0]))
    assert len(np.unique(np.stack(pictures), axis=0)) == len(pictures) > 5
    again = Maze(size=5, television=True, pixels=pixels)
    again.reset(seed=1)
    assert (shown(again.step(WATCH)[0]) != pictures[0]).any()


def test_without_a_television_there_is_neither_action_nor_noise():
    env = Maze(size=5)
    assert env.action_space == gymnasium.spaces.Discrete(4)
    assert env.observation_space.shape == (6,)


def test_pictures_differ_from_cell_to_cell():
    env = Maze(size=9, pixels=True)
    pictures = {env._pictures.around((row, column), None).tobytes()
                for row in range(9) for column in range(9)}  # fmt: skip
    assert len(pictures) == 81
    assert env.reset(seed=0)[0][24, 32].tolist() == [255, 255, 255]  # The agent, in the middle.


def test_the_log_sums_to_what_was_visited():
    """By the run's own meter, against sets of cells; visits are counted cell by cell."""
    config = EnvConfig(time_limit=30, kwargs={"size": 5, "television": True, "visits": True})
    envs = make(TASK, config, seed=0)
    driver, policy = Driver(envs), RandomPolicy(envs.action_spec, 0)
    (key,) = envs.observation_specs
    ever, now, episodes, watched = set(), [], 0, 0
    for step in range(200):
        driver.act(policy if step else None)
        row = driver.receive()
        now = [] if row["is_first"][0] else now
        watched = 0 if row["is_first"][0] else watched + row["action"][0, WATCH]
        now.append(tuple(np.round(2 * (row[key][0, :2] + 1)).astype(int).tolist()))
        ever.add(now[-1])
        for episode in driver.episodes:
            episodes += 1
            log = episode.extras
            assert log[EPISODE] == pytest.approx(len(set(now)) / 25, abs=1e-5)
            assert log[LIFETIME] == pytest.approx(len(ever) / 25, abs=1e-5)
            assert log[GOAL] == episode.episode_return
            assert log[WATCHED] == watched > 0
            visits = {key: x for key, x in log.items() if key.startswith(VISITS)}
            assert visits == {f"{VISITS}{r}_{c}": now.count((r, c)) for r, c in set(now)}
    envs.close()
    assert episodes >= 5


@pytest.mark.parametrize("repeat", [2, 3])
def test_steps_of_a_repeated_action_are_logged_too(repeat):
    config = EnvConfig(action_repeat=repeat, time_limit=60, kwargs={"size": 5, "visits": True})
    env, rng, log = make_one(TASK, config, 0), np.random.default_rng(0), {}
    row = env.reset()
    while True:
        for key in (key for key in row if key.startswith("log/")):
            log[key] = log.get(key, 0.0) + row[key]
        if row["is_last"]:
            break
        row = env.step(np.eye(4, dtype=np.float32)[rng.integers(4)])
    visits = {key: x for key, x in log.items() if key.startswith(VISITS)}
    assert sum(visits.values()) == 61 and log[EPISODE] == pytest.approx(len(visits) / 25)


def test_fresh_mazes_differ_and_log_their_own_coverage_alone():
    env = Maze(size=6, fresh=True)
    layouts = []
    for _ in range(3):
        _, info = env.reset(seed=1 if not layouts else None)
        layouts.append(env.layout.open)
        assert LIFETIME not in info and LIFETIME not in env.step(0)[4]
        assert info[EPISODE] == pytest.approx(1 / 36)
    assert (layouts[0] != layouts[1]).any() and (layouts[1] != layouts[2]).any()
    again = Maze(size=6, fresh=True)
    again.reset(seed=1)
    np.testing.assert_array_equal(again.layout.open, layouts[0])


def test_people_see_the_agent_the_goal_and_what_was_visited():
    env = Maze(size=5)
    env.reset(seed=0)
    before = env.render()
    assert before.shape == (80, 80, 3) and before.dtype == np.uint8
    env.step(int(np.argmax(env.layout.open[env.layout.start])))
    assert (env.render() != before).any()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"size": 1}, "size is 1; expected 2 to 64"),
        ({"size": "abc"}, "env.kwargs.size is 'abc'; expected a whole number"),
        ({"size": 8.5}, "env.kwargs.size is 8.5; expected a whole number"),
        ({"size": True}, "env.kwargs.size is True; expected a whole number"),
        ({"loops": 1.5}, "env.kwargs.loops is 1.5; expected 0 to 1"),
        ({"loops": "x"}, "env.kwargs.loops is 'x'; expected 0 to 1"),
        ({"layout": -1}, "env.kwargs.layout is -1; expected at least 0"),
        ({"layout": 1.5}, "env.kwargs.layout is 1.5; expected a whole number"),
        ({"television": 2}, "env.kwargs.television is 2; expected true or false"),
        ({"fresh": "yes"}, "env.kwargs.fresh is 'yes'; expected true or false"),
    ],
)
def test_mistakes_are_one_line(options, words, capfd):
    """A traceback is printed of what is no user's mistake."""
    with pytest.raises(UserError, match=words):
        make(TASK, EnvConfig(kwargs=options), seed=0)
    assert not capfd.readouterr().err
