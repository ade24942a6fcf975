"""Evaluation: one whole episode of each environment."""

from __future__ import annotations

import contextlib
import io
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envs import EnvConfig, make
from common.envs.base import env_seed
from common.errors import UserError, warn_once
from common.run import driver, environments, evaluation
from common.run.driver import ActFunction
from common.run.environments import COPIES, for_evaluation
from common.run.evaluation import Evaluation, Results, evaluate, play, trained_policy
from tests.envs.known import Echo
from tests.envs.toys import Counter, Pictures, Single
from tests.fake_agent import EVAL_ACTION, Config, make_agent

TOYS = "tests.envs.toys"


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
    config = EnvConfig(workers="auto", amount=1)
    Lengths.seeded.clear()
    result = play(Lengths, config, 8, 3, lambda envs: constant).tasks[Lengths]
    np.testing.assert_array_equal(result.lengths, Lengths.seeded)
    assert len(set(Lengths.seeded)) > 3
    np.testing.assert_allclose(result.returns, 0.25 * result.lengths)
    assert result.video is None


@pytest.mark.parametrize("num_envs, episodes", [(1, 4), (3, 3), (3, 7), (4, 6)])
def test_episodes_are_shared_out_beforehand(num_envs, episodes):
    """The first ones of every environment count, however long they are."""
    count = lambda amount: np.full((amount, 1), 0.25, np.float32)  # noqa: E731
    envs = make(Lengths, EnvConfig(workers="none"), 5, num_envs=num_envs)
    result = evaluate(lambda rows: count(num_envs), envs, episodes)
    expected = []
    for env in range(num_envs):
        alone = Lengths()
        for number in range(episodes // num_envs + (env < episodes % num_envs)):
            alone.reset(seed=None if number else env_seed(5, env))
            expected.append(alone.end)
    np.testing.assert_array_equal(result.lengths, expected)
    np.testing.assert_allclose(result.returns, 0.25 * result.lengths)


@pytest.mark.parametrize(
    "workers, amount, episodes, copies, where",
    [
        ("none", 1, 3, 3, "none"),
        ("none", 4, 40, COPIES, "none"),
        ("auto", 1, 3, 3, "none"),
        ("auto", 2, 3, 2, "process"),
        ("process", 1, 3, 1, "process"),
        ("ray", 1, 3, 1, "ray"),
    ],
)
def test_evaluations_step_where_training_does(
    workers, amount, episodes, copies, where, monkeypatch
):
    calls = []
    monkeypatch.setattr(environments, "make", lambda *args, **kwargs: calls.append((args, kwargs)))
    (build,) = for_evaluation("gym_X-v0", EnvConfig(workers=workers, amount=amount)).values()
    build(7, episodes)
    (((task, config, seed, number), options),) = calls
    assert (task, seed, number, options["fewer"]) == ("gym_X-v0", 7, copies, True)
    assert config.workers == where


def test_where_only_one_can_be_built_it_plays_all_episodes(capsys):
    Single.alive = 0
    warn_once.cache_clear()
    right = lambda rows: np.eye(2, dtype=np.float32)[[1] * len(rows["is_first"])]  # noqa: E731
    result = play(Single, EnvConfig(), 3, 0, lambda envs: right).all
    np.testing.assert_array_equal(result.lengths, [12] * 3)
    assert not Single.alive
    assert "only 1 of 3 environments can be built" in capsys.readouterr().err


def test_an_episode_without_end_is_cut_and_named(monkeypatch, capsys):
    warn_once.cache_clear()
    monkeypatch.setattr(driver, "LONGEST", 30)
    envs = make(Echo, EnvConfig(workers="none", kwargs={"end": 10**9}), 0, num_envs=2)
    result = evaluate(constant, envs, 6)
    np.testing.assert_array_equal(result.lengths, [30, 30])
    np.testing.assert_allclose(result.returns, 0.25 * 30)
    (line,) = capsys.readouterr().err.splitlines()
    assert "gone on for 30 agent steps" in line and "--env.time_limit" in line and "cut" in line


def test_a_known_limit_that_is_kept_cuts_nothing(monkeypatch, capsys):
    monkeypatch.setattr(driver, "LONGEST", 2)
    options = dict(workers="none", time_limit=9, action_repeat=2, kwargs={"end": 10**9})
    envs = make(Echo, EnvConfig(**options), 0, num_envs=2)
    np.testing.assert_array_equal(evaluate(constant, envs, 3).lengths, [5] * 3)
    assert capsys.readouterr().err == ""


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 7), st.integers(1, 9))
def test_every_episode_is_played_once_or_cut(num_envs, episodes, end, bound):
    envs = make(Echo, EnvConfig(workers="none", kwargs={"end": end}), 0, num_envs=num_envs)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(driver, "LONGEST", bound)
        lengths = evaluate(constant, envs, episodes).lengths
    cut = bound < end
    assert len(lengths) == (min(num_envs, episodes) if cut else episodes)
    assert set(lengths) == {min(bound, end)}


def test_waiting_for_an_environment_that_hangs_is_given_up_when_told(tmp_path):
    """Also while it is built."""
    for fault in ("hang", "stuck"):
        flag = tmp_path / fault
        kwargs = {"fault": fault, "at": 1, "once": str(flag)}
        config = EnvConfig(workers="process", kwargs=kwargs)
        assert play(f"{TOYS}:Faulty", config, 2, 0, lambda envs: constant, stop=flag.exists) is None


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


@pytest.mark.parametrize("picture", [np.zeros((9, 9, 3)), OSError("no display")])
def test_pictures_that_cannot_be_filmed_change_no_score(picture, capsys):
    warn_once.cache_clear()
    right = lambda rows: np.eye(2, dtype=np.float32)[[1]]  # noqa: E731
    envs = make(lambda: Pictures(picture), EnvConfig(workers="none"), 0)
    result = evaluate(right, envs, film=True)
    assert result.video is None and result.lengths == [5] and result.returns == [5]
    assert capsys.readouterr().err.count("warning: the environment cannot be filmed") == 1


def test_a_policy_is_made_only_for_environments_that_it_was_trained_in():
    envs = make(Echo, EnvConfig(workers="none"), 0, num_envs=2)
    agent = make_agent(Config(), envs.observation_specs, envs.action_spec)
    loaded = types.SimpleNamespace(
        observations=envs.observation_specs, actions=envs.action_spec,
        act_function=ActFunction(agent), params={},
    )  # fmt: skip
    result = evaluate(trained_policy(loaded, 0)(envs), envs)
    np.testing.assert_allclose(result.returns, 5 * EVAL_ACTION)
    other = make(Counter, EnvConfig(workers="none"), 0)
    with pytest.raises(
        UserError, match="trained on other observations or actions: action was 1 numb"
    ):
        trained_policy(loaded, 0)(other)


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
    clock = iter(range(7, 1000, 7))
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(evaluation, "Silence", lambda: types.SimpleNamespace(too_long=lambda: True))
    evaluate(constant, make(Lengths, EnvConfig(workers="none", time_limit=20), 3, num_envs=1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "playing: step 1, 0 of 1 episodes are over"  # It may have compiled.
    assert lines[1] == "playing: step 2, 0 of 1 episodes are over, at most 0:04:12 left"


@pytest.mark.parametrize(
    "steps, longest, words",
    [
        (40, 100, ", at most 0:00:30 left"),
        (100, 100, ", at most 0:00:00 left"),
        (120, 100, ", at most 0:00:00 left"),  # An episode may outlast what its task promises.
        (40, 0, ""),
        (0, 100, ""),
    ],
)
def test_the_time_left_is_never_below_zero(steps, longest, words):
    assert evaluation.time_left(steps, longest, 0.5 * steps) == words
