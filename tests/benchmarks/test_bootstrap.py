"""The stratified bootstrap: against SciPy and a slow loop, its seed and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from benchmarks.scores.bootstrap import Interval, bootstrap, draw, percentiles, resample
from benchmarks.scores.metrics import clipped_record_mean, gamer_mean, gamer_median

TASKS = [np.array([0.1, 0.4, 0.9, 1.3]), np.array([-1.0, 0.0, 2.0]), np.array([5.0, 5.0])]
METRICS = {"mean": gamer_mean, "median": gamer_median, "clipped": clipped_record_mean}


def test_draws_seeds_of_a_task_only_from_that_task():
    drawn = resample(TASKS, 500, np.random.default_rng(0))
    for task, values in zip(TASKS, drawn, strict=True):
        assert values.shape == (500, len(task))
        assert set(values.ravel()) == set(task)


def test_every_seed_is_drawn_equally_often():
    drawn = resample([np.arange(5.0)], 10_000, np.random.default_rng(0))[0]
    counts = np.bincount(drawn.astype(int).ravel())
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert len(np.unique(drawn, axis=0)) > 2500  # Of 3125 possible; a permutation has 120.


def test_intervals_equal_a_slow_loop():
    found = bootstrap(TASKS, METRICS, 20_000, seed=1)
    generator = np.random.default_rng(2)
    loops = {name: [] for name in METRICS}
    for _ in range(6000):
        drawn = [generator.choice(task, len(task)) for task in TASKS]
        for name, metric in METRICS.items():
            loops[name].append(metric(drawn))
    for name, values in loops.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert found[name].point == pytest.approx(METRICS[name](TASKS))
        assert found[name].low == pytest.approx(low, abs=0.06)
        assert found[name].high == pytest.approx(high, abs=0.06)


def test_interval_of_one_task_equals_scipy():
    values = np.random.default_rng(0).gamma(2, size=40)
    found = bootstrap([values], {"mean": gamer_mean}, 50_000, seed=0)["mean"]
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found[1:] == pytest.approx(tuple(expected), abs=0.02)


def test_the_seed_decides_the_interval():
    first, again, other = (bootstrap(TASKS, METRICS, 2500, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first["mean"] != other["mean"] and first["mean"].point == other["mean"].point


def test_the_global_generator_is_left_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    bootstrap(TASKS, METRICS, 100, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_no_samples_no_interval():
    assert bootstrap(TASKS, {"mean": gamer_mean}, 0, seed=0)["mean"] == Interval(
        pytest.approx((0.675 + 1 / 3 + 5) / 3)
    )


def test_chunks_are_drawn_on_not_drawn_again():
    values = draw({"me": TASKS}, {"mean": lambda agents: gamer_mean(agents["me"])}, 2300, 0)["mean"]
    assert values.shape == (2300,)
    assert not np.array_equal(values[:1000], values[1000:2000])


def test_percentiles_leave_as_much_on_either_side():
    assert percentiles(np.arange(1001.0)) == pytest.approx((25, 975))
    assert percentiles(np.arange(1001.0), 0.5) == pytest.approx((250, 750))


@pytest.mark.parametrize(("seeds", "expected"), [(3, 0.891), (5, 0.920), (10, 0.937)])
def test_intervals_cover_the_truth_as_often_as_documented(seeds, expected):
    """Of a mean, S drawn of S seeds have (S - 1) / S of the variance: Φ(±1.96 √((S - 1) / S))."""
    generator, covered, repeats = np.random.default_rng(seeds), 0, 600
    truth = np.linspace(0, 2, 20)
    for repeat in range(repeats):
        tasks = list(generator.normal(truth[:, None], 0.5, (20, seeds)))
        interval = bootstrap(tasks, {"mean": gamer_mean}, 400, seed=repeat)["mean"]
        covered += interval.low <= truth.mean() <= interval.high
    assert covered / repeats == pytest.approx(expected, abs=0.035)
