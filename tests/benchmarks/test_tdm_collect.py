"""Collecting episodes of several bodies: alignment, continuing, trainings, mistakes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.tdm import collect as collecting
from benchmarks.tdm.collect import Recorder
from benchmarks.tdm.policies import Noisy, read_policy
from common.envs import EnvConfig, make
from common.envs.dmc import describe
from common.errors import UserError
from common.replay import read_bodies, read_episodes
from common.run.driver import RandomPolicy
from common.run.evaluation import play
from common.run.recorded import COLLECTION
from tests.envs.known import Echo

TASK = "dmc_cartpole_swingup"
SHORT = ("--time-limit", "40", "--candidates", "10", "--iterations", "1", "--horizon", "3")
TRAINING = ("--configs", "dmc_proprio", "debug", "--", "--run.prefill", "20")


class Lengths(Echo):
    """Echo whose episodes have random lengths."""

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed)
        self.end = int(self.np_random.integers(2, 30))
        return result


def run(data, *words):
    return main(["tdm", "collect", "--data", str(data), *words])


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for key, value in one.items():
            assert value.dtype == other[key].dtype
            np.testing.assert_array_equal(value, other[key])


@pytest.mark.parametrize("task", [Lengths, "dmc_reacher_easy@4"])
def test_the_action_of_a_row_led_to_it(task):
    config = EnvConfig(pixels=False, state=True, time_limit=30, workers="none")
    recorder = Recorder()
    result = play(
        task, config, 3, 5, lambda envs: RandomPolicy(envs.action_spec, 1), watch=recorder
    ).tasks[task]
    envs = make(task, config, 5, 3)
    episodes = recorder.episodes()
    assert [len(episode["reward"]) - 1 for episode in episodes] == result.lengths.tolist()
    for n, episode in enumerate(episodes):
        env = envs.local(n)
        rows = [env.reset(), *(env.step(action) for action in episode["action"][1:])]
        assert episode.keys() - {"action"} == {key for key in rows[0] if "log/" not in key}
        for key in episode.keys() - {"action"}:
            np.testing.assert_array_equal(
                episode[key], np.stack([row[key] for row in rows]).astype(episode[key].dtype)
            )
        assert not episode["action"][0].any() and episode["reward"][0] == 0
        assert episode["is_first"].sum() == episode["is_last"].sum() == episode["is_last"][-1] == 1
        assert episode["action"].dtype == episode["reward"].dtype == np.float32
    assert result.returns == pytest.approx([one["reward"].sum() for one in episodes], rel=1e-5)


def test_a_collection_of_two_bodies_and_two_policies(tmp_path, capsys):
    words = ("--tasks", f"{TASK},{TASK}@1", "--policies", "random,simulator:0.5")
    assert run(tmp_path, *words, "--episodes", "2", "--seed", "3", *SHORT) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].split() == [f"{TASK}@1", "simulator:0.5", "2", printed[-1].split()[3], "80"]
    assert "8 of 8 episodes, about 0:00:00 left" in "\n".join(printed)
    bodies = read_bodies(tmp_path)
    assert {task: len(episodes) for task, episodes in bodies.items()} == {TASK: 4, f"{TASK}@1": 4}
    for task, episodes in bodies.items():
        assert all(len(episode["reward"]) == 6 for episode in episodes)  # 40 frames, repeat 8.
        starts = np.stack([episode["position"][0] for episode in episodes])
        assert len(np.unique(starts, axis=0)) == 4
        record = json.loads((tmp_path / task / "simulator:0.5" / "collection.json").read_text())
        assert record["body"] == describe(task) and record["action_repeat"] == 8
        assert record["agent_steps"] == [5, 5] and record["seed"] == 3
        assert record["planner"]["candidates"] == 10 and record["training"] is None
        returns = [one["reward"].sum() for one in read_episodes(tmp_path / task / "simulator:0.5")]
        assert record["returns"] == pytest.approx(returns, abs=1e-3)
    actions = bodies[TASK][-1]["action"]
    assert np.abs(actions).max() <= 1 and actions.dtype == np.float32


def test_the_same_command_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(collecting, "AT_ONCE", 2)
    words = ("--tasks", TASK, "--policies", "random", "--episodes", "5", *SHORT)
    assert run(tmp_path / "whole", *words) == 0
    calls, real = [], collecting.play

    def stopped(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(collecting, "play", stopped)
    assert run(tmp_path / "parts", *words) == 130
    assert len(read_episodes(tmp_path / "parts" / TASK / "random")) == 2
    assert run(tmp_path / "parts", *words) == 0
    played = len(calls)
    assert_same(*(read_episodes(tmp_path / part / TASK / "random") for part in ("whole", "parts")))
    capsys.readouterr()
    assert run(tmp_path / "parts", *words) == 0 and len(calls) == played
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == [TASK, "random", "5"]


def test_one_training_gives_all_levels(tmp_path, capsys):
    words = ("--tasks", f"{TASK}@2", "--policies", "700,4e2,random", "--episodes", "1")
    assert run(tmp_path, *words, *SHORT, *TRAINING) == 0
    assert sorted(path.name for path in (tmp_path / f"{TASK}@2").iterdir()) == [
        "400", "700", "random",
    ]  # fmt: skip
    runs = tmp_path / "agents"
    assert {path.name for path in runs.iterdir()} == {
        f"{TASK}@2", f"{TASK}@2-400.npz", f"{TASK}@2-700.npz",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "for 400 frames" in printed.partition("for 700 frames")[0]
    assert "resumed at frame" in printed.partition("for 700 frames")[2]
    path = str(runs / f"{TASK}@2-400.npz")
    more = ("--tasks", f"{TASK}@2", "--policies", f"400,{path}", "--episodes", "2")
    assert run(tmp_path, *more, *SHORT, *TRAINING) == 0
    assert "training an agent" not in capsys.readouterr().out
    folders = [one for one in (tmp_path / f"{TASK}@2").iterdir() if "agents" in one.name]
    assert len(folders) == 1 and len(read_episodes(folders[0])) == 2
    (runs / f"{TASK}@2-400.npz").unlink()
    assert run(tmp_path, *more[:3], "400", "--episodes", "3", *SHORT, *TRAINING) == 2
    wrong = ("--tasks", "dmc_reacher_easy", "--policies", str(runs / f"{TASK}@2-700.npz"), *SHORT)
    assert run(tmp_path, *wrong) == 2
    errors = capsys.readouterr().err
    assert "trained beyond 400 frames" in errors and "trained on other observations" in errors


@pytest.mark.parametrize("side", [1, -1])
def test_noise_disturbs_and_stays_within_bounds(side):
    steady = lambda rows: np.full((len(rows["is_first"]), 2), side * 0.9, np.float32)  # noqa: E731
    rows = {"is_first": np.zeros(4000, bool)}
    noisy = Noisy(steady, 0.2, 0)(rows)
    assert (side * noisy).max() == 1 and noisy.dtype == np.float32
    below = side * noisy[side * noisy < 0.9]
    assert len(below) / noisy.size == pytest.approx(0.5, abs=0.02)
    assert np.sqrt(((below - 0.9) ** 2).mean()) == pytest.approx(0.2, rel=0.05)
    np.testing.assert_array_equal(noisy, Noisy(steady, 0.2, 0)(rows))


def test_words_of_policies(tmp_path):
    assert read_policy("random") == ("random", "random", 0, "")
    assert read_policy("simulator:0") == read_policy("simulator")
    assert read_policy("simulator:0.30").folder == "simulator:0.3"
    assert read_policy("10e3").folder == read_policy("10000").folder == "10000"
    assert read_policy(str(tmp_path)).kind == "path"
    for word in ("simulator:x", "simulator:-1", "simulator:nan"):
        with pytest.raises(UserError, match="no deviation of noise"):
            read_policy(word)
    for word in ("0", "-3", "1.5"):
        with pytest.raises(UserError, match="no number of frames"):
            read_policy(word)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "dmc_cartpole_swingp"], "unknown task .* did you mean"),
        (["--tasks", "dmc_cartpole_swingup@x"], "names no variant"),
        (["--tasks", TASK, "--policies", "randm"], "unknown policy 'randm'; did you mean 'random'"),
        (["--tasks", TASK, "--episodes", "0"], "--episodes is 0"),
        (["--tasks", TASK, "--seed", "-1"], "--seed is -1"),
        (["--tasks", TASK, "--seed", str(2**31)], "--seed is 2147483648"),
        (["--tasks", ","], "--tasks names none"),
        (["--tasks", "gym_a/b"], "cannot be the name of a folder"),
        (["--tasks", "dmc_hopper_hop", "--policies", "simulator"], "no batched reward"),
        (["--tasks", TASK, "--policies", "400", "--", "--env.action_repeat", "2"], "before --"),
        (["--taks", TASK], "required|unknown option"),
    ],
)
def test_mistakes(words, message, tmp_path, capsys):
    assert run(tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and error.count("\n") == 1
    assert re.search(message, error)
    assert not any(tmp_path.rglob("*.npz"))


def test_a_folder_of_other_options_is_left_alone(tmp_path, capsys):
    assert run(tmp_path, "--tasks", TASK, "--episodes", "1", *SHORT) == 0
    assert run(tmp_path, "--tasks", TASK, "--episodes", "2", "--seed", "1", *SHORT) == 2
    assert "collected with another seed (0, now 1)" in capsys.readouterr().err
    assert run(tmp_path, "--tasks", TASK, "--episodes", "2", "--action-repeat", "4", *SHORT) == 2
    assert "with another env" in capsys.readouterr().err
    assert len(read_episodes(tmp_path / TASK / "random")) == 1


def test_a_folder_that_is_older_than_an_option_goes_on(tmp_path):
    words = ("--tasks", TASK, "--policies", "random", *SHORT)
    assert run(tmp_path, *words, "--episodes", "1") == 0
    path = tmp_path / TASK / "random" / COLLECTION
    record = json.loads(path.read_text())
    del record["env"]["challenge"], record["env"]["cost"]
    path.write_text(json.dumps(record))
    assert run(tmp_path, *words, "--episodes", "2") == 0
    assert len(read_episodes(path.parent)) == 2


def test_help_names_the_commands(capsys):
    assert main(["--help"]) == 0 and "benchmarks tdm" in capsys.readouterr().out
    assert main(["tdm", "--help"]) == 0 and "collect" in capsys.readouterr().out
    assert main(["tdm", "colect"]) == 2 and "did you mean 'collect'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["tdm", "collect", "--help"])
    assert ended.value.code == 0 and "simulator:0.3" in capsys.readouterr().out


def test_help_tells_the_defaults(monkeypatch, capsys):
    given = []
    monkeypatch.setattr(collecting, "collect", lambda options: given.append(options) or [])
    for words in ([], ["--candidates", "5", "--seed", str(2**31 - 1)]):
        assert main(["tdm", "collect", "--tasks", TASK, *words]) == 0
    with pytest.raises(SystemExit):
        main(["tdm", "collect", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    plain, few = given
    numbers = {
        "episodes": plain.episodes, "seed": plain.seed, "data": plain.data,
        "policies": ",".join(plain.policies), "action-repeat": plain.env.action_repeat,
        "candidates": plain.planner.candidates, "iterations": plain.planner.iterations,
        "horizon": plain.planner.horizon, "configs": plain.training[1],
    }  # fmt: skip
    for name, value in numbers.items():
        assert re.search(rf"--{name} [^()]*\({value}\)", text), name
    assert (plain.planner.candidates, plain.planner.top) == (40, 4)  # A tenth is kept.
    assert few.planner.top == 1 and few.env.time_limit == 0


def test_the_pace_tells_how_long_the_rest_takes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pace, said = collecting.Pace(10), []
    for now[0], episodes in ((130.0, 3), (150.0, 2), (160.0, 5)):
        said.append(pace.add(episodes))
    assert said == [
        "3 of 10 episodes, about 0:01:10 left",
        "5 of 10 episodes, about 0:00:50 left",
        "10 of 10 episodes, about 0:00:00 left",
    ]


def test_a_training_that_was_stopped_plays_nothing(tmp_path, monkeypatch):
    """And it was told to train in the collection's environments, and to score nothing."""
    configs = []
    train = lambda program, config, run: configs.append(config)  # noqa: E731
    monkeypatch.setattr("common.run.train.train", train)
    words = ("--tasks", TASK, "--policies", "400", "--seed", "3", "--action-repeat", "4")
    assert run(tmp_path, *words, *SHORT, *TRAINING) == 130
    assert not any(tmp_path.rglob("*.npz"))
    (config,) = configs
    assert (config.task, config.seed, config.run.frames) == (TASK, 3, 400)
    env = config.env
    assert (env.pixels, env.state, env.action_repeat, env.time_limit) == (False, True, 4, 40)
    schedule = config.run
    assert (schedule.prefill, schedule.eval_episodes, schedule.random_episodes) == (20, 0, 0)
    assert not schedule.video
