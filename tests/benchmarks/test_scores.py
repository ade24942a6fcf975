"""Aggregates against slow loops, hand-worked cases and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scores import metrics
from benchmarks.scores.aggregate import aggregate, headline, improvement, task_scores
from benchmarks.scores.bootstrap import Interval
from benchmarks.scores.tables import AgentScores
from benchmarks.suites import Protocol, Suite

TOY = [np.array([0.0, 1.0]), np.array([0.5, 2.5]), np.array([-0.2, 0.6])]
"""Means over seeds 0.5, 1.5 and 0.2."""

scores = st.lists(
    st.lists(st.floats(-3, 9), min_size=1, max_size=5).map(np.array), min_size=1, max_size=6
)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.gamer_median, 0.5),
        (metrics.gamer_mean, 2.2 / 3),
        (metrics.record_mean, 2.2 / 3),
        (metrics.clipped_record_mean, (0.5 + 1 + 0.2) / 3),  # Means are clipped, not runs.
        (metrics.iqm, (0.0 + 0.5 + 0.6 + 1.0) / 4),  # One of six runs is cut at either end.
        (metrics.optimality_gap, (1 + 0 + 0.5 + 0 + 1.2 + 0.4) / 6),
    ],
)
def test_aggregates_of_a_case_worked_by_hand(metric, expected):
    assert metric(TOY) == pytest.approx(expected)


def test_clipping_limits_nothing_from_below():
    assert metrics.clipped_record_mean([np.array([-4.0]), np.array([9.0])]) == -1.5


def test_profile_and_improvement_worked_by_hand():
    profile = metrics.performance_profile(TOY, np.array([-1, 0, 0.6, 3]))
    np.testing.assert_allclose(profile, [1, (0.5 + 1 + 0.5) / 3, (0.5 + 0.5 + 0) / 3, 0])
    others = [np.array([0.0, 0.0, 0.0]), np.array([9.0]), np.array([-1.0])]
    # Task 1: three ties and three wins of six pairs. Task 2: none of two. Task 3: both of two.
    expected = (0.75 + 0 + 1) / 3
    assert metrics.probability_of_improvement(TOY, others) == pytest.approx(expected)


def test_normalizing_maps_the_references_to_0_and_1():
    raw = [np.array([2.0, 10.0, 6.0]), np.array([-21.0, 21.0])]
    scaled = metrics.normalize(raw, [2, -21], [10, 21])
    np.testing.assert_allclose(scaled[0], [0, 1, 0.5])
    np.testing.assert_allclose(scaled[1], [0, 1])


@given(scores)
def test_aggregates_equal_slow_loops(tasks):
    means = [sum(task) / len(task) for task in tasks]
    ordered = sorted(means)
    n = len(ordered)
    median = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
    clipped = gap = 0.0
    for task, mean in zip(tasks, means, strict=True):
        clipped += (1 if mean > 1 else mean) / n
        gap += sum(1 - x if x < 1 else 0 for x in task) / len(task) / n
    close = dict(rel=1e-9, abs=1e-9)
    assert metrics.gamer_median(tasks) == pytest.approx(median, **close)
    assert metrics.gamer_mean(tasks) == pytest.approx(sum(means) / n, **close)
    assert metrics.record_mean(tasks) == pytest.approx(sum(means) / n, **close)
    assert metrics.clipped_record_mean(tasks) == pytest.approx(clipped, **close)
    assert metrics.optimality_gap(tasks) == pytest.approx(gap, **close)


@given(scores)
def test_interquartile_mean_equals_scipy(tasks):
    expected = scipy.stats.trim_mean(np.concatenate(tasks), 0.25)
    assert metrics.iqm(tasks) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(scores, st.lists(st.floats(-3, 9), min_size=1, max_size=4))
def test_profile_equals_a_slow_loop_and_falls(tasks, thresholds):
    profile = metrics.performance_profile(tasks, np.array(thresholds))
    for value, threshold in zip(profile, thresholds, strict=True):
        shares = [sum(x > threshold for x in task) / len(task) for task in tasks]
        assert value == pytest.approx(sum(shares) / len(shares))
    assert (np.diff(profile[np.argsort(thresholds)]) <= 1e-12).all()


@given(st.lists(st.tuples(*[st.lists(st.integers(-2, 2), min_size=1, max_size=5)] * 2), min_size=1))
def test_improvement_equals_mann_whitney(pairs):
    x, y = ([np.array(side, float) for side in sides] for sides in zip(*pairs, strict=True))
    statistics = [
        scipy.stats.mannwhitneyu(a, b, method="asymptotic").statistic / (len(a) * len(b))
        if len({*a, *b}) > 1
        else 0.5
        for a, b in zip(x, y, strict=True)
    ]
    value = metrics.probability_of_improvement(x, y)
    assert value == pytest.approx(np.mean(statistics))
    assert metrics.probability_of_improvement(y, x) == pytest.approx(1 - value)


@given(scores)
def test_resamples_are_aggregated_like_single_scores(tasks):
    stacked = [np.stack([task, task[::-1] * 2]) for task in tasks]
    for metric in (metrics.gamer_median, metrics.iqm, metrics.clipped_record_mean):
        both = [metric(tasks), metric([2 * task for task in tasks])]
        np.testing.assert_allclose(metric(stacked), both, rtol=1e-9, atol=1e-9)


def make_suite(record=True, name="toy"):
    """Three tasks; random policies score 0, gamers 10, records are 20."""
    tasks = dict.fromkeys("abc", "toy_x")
    protocol = Protocol(1000, "evaluation")
    low, gamer, best = ({task: score for task in tasks} for score in (0.0, 10.0, 20.0))
    return Suite(name, tasks, protocol, (), low, gamer, best if record else {})


def make_agent(scores, seeds=None, name="me"):
    arrays = {task: np.array(values, float) for task, values in scores.items()}
    seeds = {task: len(values) for task, values in arrays.items()} | (seeds or {})
    return AgentScores(name, Protocol(1000, "evaluation"), "here", arrays, seeds)


def test_aggregates_of_an_agent():
    result = aggregate(make_agent({"a": [0, 10], "b": [20, 40], "c": [1, 3]}), make_suite(), 100)
    points = {name: value.point for name, value in result.values.items()}
    assert points == pytest.approx(
        {
            "gamer median": 0.5,
            "gamer mean": (0.5 + 3 + 0.2) / 3,
            "record mean": (0.25 + 1.5 + 0.1) / 3,
            "clipped record mean": (0.25 + 1 + 0.1) / 3,
            "IQM": (0.1 + 0.3 + 1 + 2) / 4,
            "optimality gap": (0.5 + 0 + 0.8) / 3,
        }
    )
    assert list(points)[:4] == list(headline(make_suite()))
    assert result.missing == () and result.notes == ()
    for value in result.values.values():
        assert value.low <= value.point <= value.high and value.low < value.high


def test_benchmarks_without_records_have_other_headlines():
    agent = make_agent({"a": [0, 10], "b": [20, 40], "c": [1, 3]})
    without = aggregate(agent, make_suite(record=False))
    assert list(without.values) == ["gamer median", "gamer mean", "IQM", "optimality gap"]
    control = aggregate(agent, make_suite(record=False, name="dmc"))
    assert list(control.values) == ["mean", "median", "IQM", "optimality gap"]
    assert control.values["median"] == without.values["gamer median"]


def test_missing_tasks_and_seeds_are_listed_and_not_filled_in():
    result = aggregate(make_agent({"c": [10, 30], "a": [0, 10, 20]}), make_suite())
    assert result.missing == ("b",)
    assert result.values["gamer mean"].point == pytest.approx((2 + 1) / 2)
    assert result.notes == ("fewer than 3 seeds: c 2",)
    nothing = aggregate(make_agent({}), make_suite())
    assert nothing.missing == ("a", "b", "c") and nothing.values == {}


def test_no_interval_where_seeds_are_not_known_one_by_one():
    known = {"a": [0, 10], "b": [20, 40]}
    single = aggregate(make_agent(known | {"c": [1]}), make_suite())
    assert {value[1:] for value in single.values.values()} == {(None, None)}
    assert "in c there is one seed: no intervals" in single.notes
    for seeds in (0, 5):
        mean = aggregate(make_agent(known | {"c": [1]}, {"c": seeds}), make_suite())
        assert mean.values["IQM"].low is None
        assert mean.notes[0].startswith("in c only the mean over seeds is known")


def test_rows_of_tasks():
    rows = task_scores(make_agent({"b": [20, 40], "a": [4]}, {"a": 5}), make_suite(), 100)
    assert [(row.task, row.seeds, row.gamer, row.record) for row in rows] == [
        ("a", 5, 0.4, 0.2),
        ("b", 2, 3.0, 1.5),
    ]
    assert rows[0].raw == Interval(4.0)
    assert rows[1].raw == Interval(30.0, 20.0, 40.0)
    assert task_scores(make_agent({"a": [4]}), make_suite(record=False))[0].record is None


def test_improvement_is_over_common_tasks():
    one = make_agent({"a": [1, 2], "b": [5, 6]})
    other = make_agent({"b": [5, 9], "c": [0, 0]})
    assert improvement(one, other, make_suite(), 0) == Interval(0.375)  # (1/2 + 1) of 4 pairs.
    interval = improvement(one, other, make_suite(), 200)
    assert interval.low < 0.375 < interval.high
    assert improvement(one, make_agent({"c": [0, 1]}), make_suite()) is None
    assert improvement(one, make_agent({"a": [1]}, {"a": 5}), make_suite()) is None
