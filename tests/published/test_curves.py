"""Published curves by task, and the statistics of few seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from common.published.curves import Point, find_target, published_agents
from common.published.statistics import area, difference, interval
from common.published.tables import DATA, read_rows, read_scores


def agents(task, inputs="state"):
    return {one.name: one for one in published_agents(find_target(task), inputs)}


def test_tasks_go_by_either_name():
    assert find_target("dmc_cup_catch") == find_target("dmc_ball_in_cup_catch")
    assert find_target("dmc_cup_catch")[:2] == ("dmc", "cup_catch")
    assert find_target("atari_up_n_down").name == "UpNDown"
    for task in ("dmc_walker_walk@12", "rwrl_walker_walk", "gym_CartPole-v1", "", "dmc_a,dmc_b"):
        assert find_target(task) is None


def test_a_curve_is_that_of_the_table():
    found = agents("dmc_cup_catch")
    assert found["TD-MPC"].points[0] == (20_000, 375.8, 355.2, 5)
    assert found["TD-MPC"].protocol.repeat == "8, 4 or 2, by task"
    assert found["BRO"].protocol.repeat == "" and "Apache-2.0" in found["BRO"].source
    last = found["TD-MPC2"].points[-1]
    assert last[:2] == (1_000_000, 985.83) and math.isnan(last.sd) and last.seeds == 3


def test_every_task_has_somebody_and_every_curve_goes_by_frames():
    names = {"state": set(), "pixels": set()}
    for task in read_scores("dmc_scores.csv"):
        for inputs, seen in names.items():
            found = agents(f"dmc_{task}", inputs)
            assert len(found) >= 3, (task, inputs)
            seen |= set(found)
            for one in found.values():
                frames = [point.frames for point in one.points]
                assert frames == sorted(set(frames)) and one.source and one.points
                assert all(0 <= point.mean <= 1000 for point in one.points)
    assert {"DreamerV2", "Dreamer V1", "DrQ-v2", "PlaNet", "DrQ"} <= names["pixels"]


def test_curves_of_seeds_are_means_over_those_that_have_data():
    """Phoenix: four of DreamerV2's eight runs end early."""
    pong, phoenix = agents("atari_pong", "pixels"), agents("atari_phoenix", "pixels")
    assert [phoenix["DreamerV2"].points[i].seeds for i in (0, 198)] == [8, 4]
    rows = read_scores("atari_scores.csv")
    assert pong["DreamerV2"].points[198].mean == pytest.approx(float(rows["Pong"]["dreamerv2"]))
    assert pong["DQN"].points[0].seeds == 5 and pong["DQN"].points[0].frames == 5_000_000
    assert "actions that the game uses" in pong["DQN"].protocol.world
    short = agents("atari_up_n_down", "pixels")["DreamerV3, 2024 (100k)"].points[0]
    assert short.frames == 400_000 and short.seeds == 1 and math.isnan(short.sd)


def test_intervals_are_students():
    values = np.array([900.0, 950.0, 970.0, 985.0])
    point = Point(1, values.mean(), values.std(ddof=1), 4)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(point) == pytest.approx((expected.low, expected.high))
    assert all(map(math.isnan, interval(point._replace(seeds=1))))
    assert all(map(math.isnan, interval(Point(1, 5.0, seeds=3))))


def test_a_difference_is_welchs():
    ours, theirs = np.array([700.0, 760.0, 720.0]), np.array([610.0, 640.0, 650.0, 700.0, 630.0])
    test = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    points = [Point(1, x.mean(), x.std(ddof=1), len(x)) for x in (ours, theirs)]
    found = difference(*points)
    assert (found.value - found.half, found.value + found.half) == pytest.approx(
        (test.low, test.high)
    )
    assert found.verdict == "ahead" and difference(*points[::-1]).verdict == "behind"


def test_a_single_training_might_be_one_of_theirs():
    """The pooled t-test of one value against five has this interval."""
    theirs = np.array([610.0, 640.0, 650.0, 700.0, 630.0])
    point = Point(1, theirs.mean(), theirs.std(ddof=1), 5)
    inside = difference(Point(1, 720.0, seeds=1), point)
    test = scipy.stats.ttest_ind([720.0], theirs).confidence_interval(0.95)
    assert 2 * inside.half == pytest.approx(test.high - test.low)
    assert inside.verdict == "undecided"
    assert difference(Point(1, 900.0, seeds=1), point).verdict == "ahead"
    assert difference(point, Point(1, 900.0, seeds=1)).verdict == "behind"


def test_without_seeds_nothing_is_decided():
    alone = Point(1, 900.0, seeds=1)
    for other in (Point(1, 5.0), Point(1, 5.0, seeds=1), Point(1, 5.0, seeds=100)):
        assert math.isnan(difference(alone, other).half)
        assert difference(alone, other).verdict == "undecided"
    same = Point(1, 1000.0, 0.0, 3)
    assert difference(same, same).verdict == "undecided"
    assert difference(same, same._replace(mean=999.0)).verdict == "ahead"


def test_an_area_is_a_mean_over_frames():
    assert area([0, 10, 30], [0.0, 10.0, 10.0]) == pytest.approx((50 + 200) / 30)
    assert math.isnan(area([5], [1.0]))


def test_the_data_stay_small_and_say_their_licences():
    sizes = {path.name: path.stat().st_size for path in DATA.iterdir()}
    assert sum(sizes.values()) < 600_000 and {"README.md", "NOTICE.txt"} <= set(sizes)
    notice = (DATA / "NOTICE.txt").read_text()
    for row in read_rows("dmc_low_frames_sources.csv"):
        assert row["repo"] in notice or row["repo"].startswith("danijar/"), row["repo"]
    assert set(sizes) == set(
        word for word in (DATA / "README.md").read_text().replace("`", " ").split() if word in sizes
    ) | {"README.md"}
