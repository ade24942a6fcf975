"""Runs that explore mazes: what they saw, as a record, a table and a figure."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import exploration, series
from common.errors import UserError

FRAMES = 1000


def test_a_summary_adds_up_all_episodes():
    episodes = [
        {"frames": 10, "goal": 0.0, "visits/0_0": 7.0, "visits/1_0": 3.0},
        {"frames": 20, "goal": 1.0, "visits/0_0": 5.0, "visits/0_1": 5.0, "watched": 4.0},
    ]
    found = exploration.summary(episodes, 2)
    assert found["curve"] == [[10, 0.5], [20, 0.75]]
    assert found["visits"] == [[12, 5], [3, 0]]
    assert found["goals"] == 1 and found["watched"] == 0.2
    with pytest.raises(UserError, match="visits true"):
        exploration.summary([{"frames": 3, "goal": 0.0}], 2)


@pytest.mark.parametrize("world", exploration.WORLDS)
def test_a_random_policy_is_played_in_the_mazes_of_the_preset(world):
    found = exploration.options(world, FRAMES)
    episodes = exploration.play_at_random(found, seed=1)
    assert [one["frames"] for one in episodes] == [200, 400, 600, 800, 1000]
    visits = {key: x for key, x in episodes[0].items() if key.startswith("visits/")}
    assert sum(visits.values()) == 201  # Every step, and where it began.
    size = found["env"]["kwargs"]["size"]
    assert episodes[0]["coverage_episode"] == pytest.approx(len(visits) / size**2, abs=1e-5)
    assert ("watched" in episodes[0]) == (world == "television")
    assert episodes != exploration.play_at_random(found, seed=2)


def test_runs_are_recorded_once_and_shown(tmp_path, capsys):
    """Those of other lengths are not looked at; a method that did not run is said to."""
    words = ["--results", str(tmp_path / "results"), "--frames", str(FRAMES)]
    made = ["--logdir", str(tmp_path), "--methods", "random", "--seeds", "1", "2"]
    assert exploration.main([*words, *made]) == 0
    first = capsys.readouterr().out
    assert "run 1 of 4: random, plain, seed 1" in first and "| plain | random policy | **" in first
    picture = tmp_path / "results" / exploration.PICTURE
    picture.unlink()  # Drawn after every run, and where all had been made.
    lines = (tmp_path / "results" / exploration.RECORD).read_text().splitlines()
    assert len(lines) == 4 and json.loads(lines[0])["versions"]
    assert exploration.main([*words, *made]) == 0
    assert ">> run" not in (again := capsys.readouterr().out)
    assert again.splitlines()[-12:] == first.splitlines()[-12:] and picture.exists()
    assert exploration.main([*words, "--table"]) == 0
    shown = capsys.readouterr().out.splitlines()
    row = next(line for line in shown if line.startswith("| plain | random policy"))
    runs = exploration.read(tmp_path / "results" / exploration.RECORD, FRAMES)
    shares = [runs["random", "plain", seed]["curve"][-1][1] for seed in (1, 2)]
    assert f"**{np.mean(shares):.0%}** | {shares[0]:.0%}, {shares[1]:.0%} | 0, 0 |" in row
    assert "| plain | Plan2Explore | not run |" in "\n".join(shown)
    assert (tmp_path / "results" / exploration.PICTURE).stat().st_size > 10_000
    assert exploration.main([*words[:2], "--frames", "7", "--table"]) == 2
    assert "holds no run of 7 frames" in capsys.readouterr().err
    assert exploration.main([*words, "--methods", "random"]) == 2
    assert "--logdir is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--frames 0", "--frames is 0; expected at least 200, a whole episode"),
        ("--frames 150 --methods random", "--frames is 150; expected at least 200, a whole "),
        ("--frames 1000 --methods random none", "the first 1000 are random; give more, or --met"),
    ],
)
def test_runs_that_could_show_nothing_do_not_begin(words, message, tmp_path, capsys):
    results = tmp_path / "results"
    more = ["--logdir", str(tmp_path / "runs"), "--results", str(results)]
    assert exploration.main([*words.split(), *more]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert not captured.out and not list(tmp_path.iterdir())


def test_a_run_is_a_command_of_its_own(tmp_path, monkeypatch):
    """With the method, the world and visits; the log of its folder is read."""
    said = []

    def run(words):
        said.extend(words[2:])
        tmp_path.joinpath("scores.jsonl").write_text(
            '{"frames": 200, "goal": 0.0, "visits/0_0": 201.0, "watched": 50.0}\n'
        )
        tmp_path.joinpath("metrics.jsonl").write_text('{"frames": 200, "eval/return_mean": 0.4}\n')
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(series, "subprocess", SimpleNamespace(run=run))
    line = exploration.train("curiosity", "television", 3, FRAMES, tmp_path)
    assert line["evaluations"] == [[200, 0.4]] and line["watched"] == 0.25
    shown = " ".join(said)
    for words in (
        "dreamer train --configs maze --seed 3", "--exploration.method curiosity",
        "--run.frames 1000", "--env.kwargs.television true", "--env.kwargs.visits true",
    ):  # fmt: skip
        assert words in shown
    failing = lambda words: SimpleNamespace(returncode=2)  # noqa: E731
    monkeypatch.setattr(series, "subprocess", SimpleNamespace(run=failing))
    with pytest.raises(UserError, match="ended with 2"):
        exploration.train("none", "plain", 1, FRAMES, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["none", "surprise", "plan2explore", "curiosity"])
def test_every_method_trains_in_the_maze(tmp_path, method):
    line = exploration.train(method, "television", 1, 1400, tmp_path)
    assert line["curve"][-1][0] == 1400 and line["evaluations"]
