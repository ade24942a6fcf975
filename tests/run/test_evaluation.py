"""Evaluation: one whole episode of each environment."""

from __future__ import annotations

import types

import numpy as np
import pytest

from common.envs import EnvConfig, make
from common.run import evaluation
from common.run.evaluation import Evaluation, Results, evaluate, play
from tests.envs.known import Echo
from tests.envs.toys import Counter


class Lengths(Echo):
    """Echo whose episodes have random lengths; remembers those that were seeded."""

    seeded: list[int] = []

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed)
        self.end = int(self.np_random.integers(2, 30))
        if seed is not None:  # The first episode of a copy.
            self.seeded.append(self.end)
        return result


def constant(rows):
    """A policy of one action."""
    return np.full((len(rows["is_first"]), 1), 0.25, np.float32)


def test_every_environment_plays_exactly_its_first_episode():
    config = EnvConfig(workers="process", amount=1)
    Lengths.seeded.clear()
    result = play(Lengths, config, 8, 3, lambda envs: constant).tasks[Lengths]
    np.testing.assert_array_equal(result.lengths, Lengths.seeded)
    assert len(set(Lengths.seeded)) > 3
    np.testing.assert_allclose(result.returns, 0.25 * result.lengths)
    assert result.video is None


def test_metrics_and_words():
    result = Results({"gym_a": Evaluation(np.array([1.0, 3.0]), np.array([4, 6]), None)})
    assert result.metrics("eval") == {
        "eval/return_mean": 2, "eval/return_std": 1, "eval/return_min": 1,
        "eval/return_max": 3, "eval/length_mean": 5,
    }  # fmt: skip
    assert str(result) == "return 2.0 ± 1.0 over 2 episodes"


def test_metrics_and_words_of_several_tasks():
    film = np.zeros((3, 4, 4, 3), np.uint8)
    result = Results(
        {
            "gym_a": Evaluation(np.array([1.0, 3.0]), np.array([4, 6]), None),
            "gym_b": Evaluation(np.array([10.0, 10.0]), np.array([5, 5]), film),
        }
    )
    metrics = result.metrics("eval")
    assert (metrics["eval/return_mean"], metrics["eval/return_max"]) == (6, 10)
    assert (metrics["eval/return/gym_a"], metrics["eval/return/gym_b"]) == (2, 10)
    assert list(result.videos) == ["policy_gym_b"]
    assert str(result) == "return 6.0 ± 4.1 over 4 episodes (gym_a 2.0, gym_b 10.0)"


def test_film_shows_the_first_episode_from_its_reset_on():
    envs = make(Echo, EnvConfig(workers="none", kwargs={"end": 4}), 0, num_envs=2)
    video = evaluate(constant, envs, film=True).video
    assert video.shape == (4, 32, 32, 3) and video.dtype == np.uint8
    np.testing.assert_array_equal(video[:, 0, 0, 0], [0, 10, 20, 30])


def test_no_film_where_the_environment_cannot_be_drawn():
    env = Counter(end=3)
    env.render_mode = None
    envs = make(lambda: env, EnvConfig(workers="none"), 0)
    policy = lambda rows: np.zeros((1, envs.action_spec.size), np.float32)  # noqa: E731
    assert evaluate(policy, envs, film=True).video is None


def test_stops_when_told():
    answers = iter([False, False, True])
    envs = make(Echo, EnvConfig(workers="none"), 0)
    assert evaluate(constant, envs, stop=lambda: next(answers)) is None
    with pytest.raises(StopIteration):
        next(answers)


def test_says_how_far_it_is_when_it_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(evaluation.Silence, "too_long", lambda self: True)
    evaluate(constant, make(Lengths, EnvConfig(workers="none"), 0, num_envs=3))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "playing: step 1, 0 of 3 episodes are over"  # Of unknown length.
    assert lines[-1] == f"playing: step {len(lines)}, 3 of 3 episodes are over"


def test_says_how_much_time_is_left(monkeypatch, capsys):
    clock = iter(range(0, 1000, 7))
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(evaluation, "Silence", lambda: types.SimpleNamespace(too_long=lambda: True))
    evaluate(constant, make(Lengths, EnvConfig(workers="none", time_limit=20), 3, num_envs=1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "playing: step 1, 0 of 1 episodes are over, at most 0:02:13 left"
    assert lines[1] == "playing: step 2, 0 of 1 episodes are over, at most 0:02:06 left"
