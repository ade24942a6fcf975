"""The memory worlds against a slow description of them, row by row."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from common.envs import EnvConfig, make_one
from common.envs import check_env as look_at
from common.envs.memory import FRAME, PHASES, Recall, Repeat
from common.errors import UserError


def _read(row, symbols):
    """Symbol (or None) and phase of a vector."""
    shown, phase = row[:symbols], row[symbols:]
    assert set(np.unique(row)) <= {0, 1} and phase.sum() == 1 and shown.sum() in (0, 1)
    return (int(shown.argmax()) if shown.any() else None), PHASES[int(phase.argmax())]


def _play(env, seed, policy):
    """One episode: rows, rewards, sum of the log; the policy sees all rows so far."""
    row, info = env.reset(seed=seed)
    rows, rewards, logged = [row], [], sum(info.values())
    while True:
        row, reward, terminated, truncated, info = env.step(policy(rows))
        assert not truncated
        rows.append(row)
        rewards.append(reward)
        logged += info.get("log/success", 0.0)
        if terminated:
            return rows, rewards, logged


@pytest.mark.parametrize("delay", [1, 10, 200])
@pytest.mark.parametrize("right", [True, False])
def test_recall(delay, right):
    env, symbols = Recall(delay=delay, symbols=3, wrong=-0.5), 3
    for seed in range(4):
        answer = lambda rows: (_read(rows[0], symbols)[0] + (not right)) % symbols  # noqa: E731
        rows, rewards, success = _play(env, seed, answer)
        cue, phases = _read(rows[0], symbols), [_read(row, symbols)[1] for row in rows]
        assert phases == ["cue"] + ["wait"] * delay + ["ask", "end"]
        assert cue[0] is not None and len(rewards) == delay + 2 == env.steps
        assert rewards == [0.0] * (delay + 1) + [1.0 if right else -0.5]
        assert success == right == pytest.approx(env.share_right(sum(rewards)))
        assert _read(rows[-2], symbols)[0] is None and _read(rows[-1], symbols)[0] is None
        assert all(_read(row, symbols)[0] is not None for row in rows[1:-2])


def test_only_the_answer_counts_and_distractors_tell_nothing():
    env = Recall(delay=20)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        asked = lambda rows: _read(rows[-1], 4)[1] == "ask"  # noqa: E731
        policy = lambda rows: _read(rows[0], 4)[0] if asked(rows) else rng.integers(4)  # noqa: E731, B023
        assert _play(env, seed, policy)[2] == 1
    cues, others = [], []
    for seed in range(300):
        rows, _, _ = _play(env, seed, lambda rows: 0)
        cues.append(_read(rows[0], 4)[0])
        others.append([_read(row, 4)[0] for row in rows[1:21]])
    cues, others = np.array(cues), np.array(others)
    np.testing.assert_allclose(np.bincount(cues, minlength=4) / 300, 0.25, atol=0.08)
    np.testing.assert_allclose((others == cues[:, None]).mean(0), 0.25, atol=0.1)


@pytest.mark.parametrize(("delay", "length"), [(1, 5), (4, 9)])
@pytest.mark.parametrize("wrong_by", [0, 1])
def test_repeat(delay, length, wrong_by):
    env, symbols = Repeat(delay=delay, length=length, symbols=5), 5

    def policy(rows):
        if len(rows) <= delay:
            return 0
        return (_read(rows[-1 - delay], symbols)[0] + wrong_by) % symbols

    for seed in range(3):
        rows, rewards, success = _play(env, seed, policy)
        score = -1.0 if wrong_by else 1.0
        assert rewards == [0.0] * delay + [score] * length and len(rewards) == env.steps
        assert success == pytest.approx(1.0 - wrong_by) == env.share_right(sum(rewards))
        phases = [_read(row, symbols)[1] for row in rows]
        assert phases == ["cue"] * delay + ["ask"] * length + ["end"]
        assert [_read(row, symbols)[0] is None for row in rows] == [False] * env.steps + [True]


def test_repeat_needs_the_right_row():
    """Who names the newest symbol, or one row more, is right by chance alone."""
    env = Repeat(delay=3, length=400)
    for off in (-1, 1):
        policy = lambda rows, off=off: (  # noqa: E731
            _read(rows[max(-len(rows), -1 - 3 + off)], 4)[0]
        )
        assert _play(env, 0, policy)[2] == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("world", [Recall, Repeat])
@pytest.mark.parametrize("pixels", [False, True])
def test_the_same_seed_gives_the_same_episodes(world, pixels):
    plays = []
    for seed in (3, 3, 4):
        env = world(pixels=pixels)
        first = _play(env, seed, lambda rows: 1)
        second = _play(env, None, lambda rows: 1)
        plays.append(np.concatenate([first[0], second[0]]))
        length = len(first[0])
        assert not np.array_equal(plays[-1][:length], plays[-1][length:])
    np.testing.assert_array_equal(plays[0], plays[1])
    assert not np.array_equal(plays[0], plays[2])


@pytest.mark.parametrize("world", [Recall, Repeat])
@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.filterwarnings("ignore:.*not within the environment registry")
def test_gymnasium_finds_nothing_wrong(world, pixels):
    check_env(world(pixels=pixels), skip_render_check=True)


@pytest.mark.parametrize("symbols", [2, 4, 5, 16])
def test_pictures_show_what_vectors_show(symbols):
    """The symbol by its place, the phase by the shade of the frame; noise only in between."""
    pictures, vectors = (Recall(delay=6, symbols=symbols, pixels=x) for x in (True, False))
    seen = {}
    for seed in range(8 * symbols):
        image, vector = (env.reset(seed=seed)[0] for env in (pictures, vectors))
        symbol, _ = _read(vector, symbols)
        bright = image[FRAME:-FRAME, FRAME:-FRAME, 0] == 255
        assert bright.sum() >= 100
        where = bright.tobytes()
        assert seen.setdefault(symbol, where) == where
    assert len(set(seen.values())) == len(seen) == symbols
    pictures.reset(seed=0)
    shades, noises = [], []
    for _ in range(8):
        image = pictures.step(0)[0]
        frame = np.unique(image[:FRAME])
        assert frame.size == 1
        shades.append(int(frame[0]))
        inside = image[FRAME:-FRAME, FRAME:-FRAME]
        noises.append(np.unique(inside[inside < 255]).size)
    assert shades == [0] * 6 + [160, 80]
    assert all(noise > 32 for noise in noises[:6]) and noises[6:] == [1, 1]


@pytest.mark.parametrize(
    ("task", "kwargs", "message"),
    [
        ("memory_recal", {}, "unknown task 'memory_recal'; did you mean 'memory_recall'"),
        ("memory_recall", {"delay": 0}, "env.kwargs.delay is 0; expected at least 1"),
        ("memory_recall", {"delay": 1.5}, "env.kwargs.delay is 1.5; expected a whole number"),
        ("memory_recall", {"delay": "ten"}, "env.kwargs.delay is 'ten'; expected a whole number"),
        ("memory_recall", {"delay": None}, "env.kwargs.delay is None; expected a whole number"),
        ("memory_recall", {"delay": 50.0}, "env.kwargs.delay is 50.0; expected a whole number"),
        ("memory_recall", {"delay": math.inf}, "env.kwargs.delay is inf; expected a whole number"),
        ("memory_recall", {"delay": math.nan}, "env.kwargs.delay is nan; expected a whole number"),
        ("memory_recall", {"symbols": 4.0}, "env.kwargs.symbols is 4.0; expected a whole number"),
        ("memory_recall", {"wrong": "x"}, "env.kwargs.wrong is 'x'; expected -1 to 0"),
        ("memory_recall", {"pixels": 1}, "env.kwargs.pixels is 1; expected true or false"),
        ("memory_recall", {"symbols": 17}, "env.kwargs.symbols is 17; expected 2 to 16"),
        ("memory_recall", {"wrong": 0.5}, "env.kwargs.wrong is 0.5; expected -1 to 0"),
        ("memory_repeat", {"length": 0}, "env.kwargs.length is 0; expected at least 1"),
        ("memory_repeat", {"lenght": 3}, "env.kwargs .*lenght"),
    ],
)
def test_mistakes_are_named(task, kwargs, message):
    with pytest.raises(UserError, match=message):
        make_one(task, EnvConfig(kwargs=kwargs), 0)


def test_an_episode_as_rows():
    """As agents see it: the last row ends the episode for good, and its success is logged."""
    env = make_one("memory_recall", EnvConfig(kwargs={"delay": 2}), 0)
    row = env.reset()
    cue = row["vector"][:4]
    rows = [env.step(cue) for _ in range(4)]
    assert [bool(row["is_last"]) for row in rows] == [False, False, False, True]
    assert rows[-1]["is_terminal"] and rows[-1]["reward"] == 1
    assert rows[-1]["log/success"] == 1


def test_the_check_finds_nothing_odd():
    report = look_at("memory_recall", EnvConfig(kwargs={"delay": 3}), steps=40)
    assert "vector: float32 (8,)" in report and "action: one of 4 choices" in report
    assert "6 ended, 6 of them terminal" in report and "log/success" in report
    assert report.endswith("no problems found"), report


def test_tasks_of_popgym_are_rows_too():
    """``pip install popgym``; its ids need their module in front."""
    pytest.importorskip("popgym")
    env = make_one("gym_popgym:popgym-RepeatPreviousEasy-v0", EnvConfig(), 0)
    row = env.reset()
    for _ in range(60):
        if row["is_last"]:
            break
        row = env.step(env.action_spec.sample(np.random.default_rng(0), 1)[0])
    assert row["is_last"]
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
