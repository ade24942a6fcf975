"""The score command: what it prints and writes, and what it says about mistakes."""

from __future__ import annotations

import csv
import json
import re

import pytest

from benchmarks.scores.command import score
from benchmarks.suites import suite
from common.config import update
from common.published.tables import column, read_scores
from common.run import folder as run_folder
from tests.fake_agent import Config

HEADER = "game,seed,frames,return\n"


@pytest.fixture
def run(capsys):
    """Runs the command; returns its exit code, its lines and its errors."""

    def command(*words, of="atari"):
        code = score(of, list(map(str, words)))
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return command


@pytest.fixture
def table(tmp_path):
    """Writes three seeds of two games."""
    path = tmp_path / "mine.csv"
    games = {"Pong": 10, "Boxing": 91}
    rows = [f"{game},{seed},2e8,{x + seed}\n" for game, x in games.items() for seed in range(3)]
    path.write_text(HEADER + "".join(rows))
    return path


def test_published_prints_a_line_for_each_agent(run):
    code, lines, errors = run("--published")
    assert code == 0 and not errors
    assert [line.split() for line in lines[1:6]] == [
        ["DQN", "0.65", "2.84", "0.12", "0.12"],
        ["C51", "1.09", "7.70", "0.15", "0.15"],
        ["Rainbow", "1.47", "9.12", "0.17", "0.17"],
        ["IQN", "1.29", "8.85", "0.21", "0.21"],
        ["DreamerV2", "2.15", "11.33", "0.44", "0.28"],
    ]
    assert re.split("  +", lines[0]) == ["agent", "gamer median", "gamer mean", "record mean",
                                         "clipped record mean"]  # fmt: skip
    assert all(line.startswith("note: ") for line in lines[6:])


def test_different_protocols_are_said(run):
    _, lines, _ = run("--published")
    assert lines[6] == (
        "note: different protocols, which do not rank together: DQN, C51, Rainbow, IQN: "
        "200M frames, sticky 0.25, minimal actions, pixels, training returns; DreamerV2: "
        "200M frames, sticky 0.25, 18 actions, pixels, evaluation returns"
    )
    _, lines, _ = run("--published", "--agents", "DreamerV2")
    assert (
        "note: protocol: 200M frames, sticky 0.25, 18 actions, pixels, evaluation returns" in lines
    )
    assert not any("different" in line for line in lines)


def test_table_of_tasks(run):
    _, lines, _ = run("--published", "--tasks")
    rows = {words[0]: words[1:] for words in map(str.split, lines[7:63])}
    assert lines[7].split()[:4] == ["task", "random", "gamer", "record"]
    printed = read_scores("atari_published_games.csv")
    assert set(printed) < set(rows)
    names = ["random", "human_gamer", "human_record", "rainbow", "iqn", "dreamerv2"]
    for game, row in printed.items():
        random, gamer, record, _, _, *agents = rows[game]
        assert [random, gamer, record, *agents] == [row[name] for name in names], game
    _, lines, _ = run("--published", "--tasks", of="dmc_proprio")
    assert any(line.split()[:3] == ["acrobot_swingup", "0.0", "1000.0"] for line in lines)


def test_games_that_are_missing_are_listed(run, table):
    _, lines, _ = run("--scores", table)
    assert lines[1].startswith("mine") and lines[1].endswith("(2 of 55 tasks)")
    missing = next(line for line in lines if "misses" in line)
    assert missing.startswith("note: mine misses 53 of 55 tasks and ranks with nobody who has them")
    assert "Alien, Amidar" in missing and "Pong" not in missing


def test_intervals_and_improvement(run, table):
    _, lines, _ = run("--scores", table, "--published", "--intervals", "--bootstrap", 200)
    text = "\n".join(lines)
    assert re.search(r"DreamerV2 +2\.\d\d \[\d\.\d\d, \d\.\d\d\] +11\.33 \[", text)
    assert re.search(r"IQN +1\.29 +8\.85 +0\.21 +0\.21 +1\.81 +0\.21", text)
    assert re.search(r"P\(DreamerV2 > mine\) = 0\.\d\d \[0\.\d\d, \d\.\d\d\] over 2 tasks", text)
    again = run("--scores", table, "--published", "--intervals", "--bootstrap", 200)[1]
    other = run(
        "--scores", table, "--published", "--intervals", "--bootstrap", 200, "--seed", 1
    )[1]  # fmt: skip
    assert lines == again and lines != other
    without = run("--scores", table, "--published", "--intervals", "--bootstrap", 0)[1]
    assert "[" not in "".join(without)


def test_json_and_csv_hold_everything(run, table, tmp_path):
    out = tmp_path / "out.json", tmp_path / "out.csv"
    words = "--agents", "mine", "IQN", "--json", out[0], "--csv", out[1], "--bootstrap", 100
    code, lines, _ = run("--scores", table, "--published", *words)
    assert code == 0
    record = json.loads(out[0].read_text())
    assert (record["suite"], record["bootstrap"], record["seed"]) == ("atari", 100, 0)
    iqn, mine = record["agents"]
    assert (iqn["name"], iqn["published"], mine["name"]) == ("IQN", True, "mine")
    assert iqn["aggregates"]["gamer mean"]["point"] == pytest.approx(8.85, abs=0.005)
    assert iqn["aggregates"]["gamer mean"]["low"] is None
    assert mine["aggregates"]["IQM"]["low"] <= mine["aggregates"]["IQM"]["point"]
    assert mine["protocol"]["returns"] is None and mine["source"] == str(table)
    assert len(mine["missing"]) == 53 and iqn["missing"] == []
    assert [f"note: {note}" for note in record["notes"]] == lines[3:]
    rows = list(csv.DictReader(out[1].open()))
    assert len(rows) == len(record["tasks"]) == 57
    pong = next(row for row in rows if row["agent"] == "mine" and row["task"] == "Pong")
    assert (pong["seeds"], float(pong["return"])) == ("3", 11)
    assert 10 <= float(pong["low"]) < 11 < float(pong["high"]) <= 12
    low, gamer = suite("atari").low["Pong"], suite("atari").gamer["Pong"]
    assert float(pong["gamer_normalized"]) == pytest.approx((11 - low) / (gamer - low))


def test_other_benchmarks_have_other_columns(run):
    _, lines, _ = run("--published", of="atari100k")
    assert re.split("  +", lines[0])[1:] == ["gamer median", "gamer mean", "IQM", "optimality gap"]
    assert len([line for line in lines if not line.startswith("note: ")]) == 16
    _, lines, _ = run("--published", of="dmc")
    assert re.split("  +", lines[0])[1:] == ["mean", "median", "IQM", "optimality gap"]
    mean = sum(column(read_scores("dmc_scores.csv"), "curl_1m").values()) / 20_000
    assert next(line for line in lines if line.startswith("CURL")).split()[1] == f"{mean:.2f}"


def test_agents_beyond_the_usual_are_named(run):
    _, lines, _ = run("--published", "--agents", "DreamerV2-schedules")
    assert lines[1].split() == ["DreamerV2-schedules", "2.64", "10.45", "0.43", "0.28"]
    assert lines[2].startswith("note: ")


def test_agents_of_one_name_are_told_apart(run, table, tmp_path):
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / "mine.csv"
    second.write_text(HEADER + "Pong,0,2e8,1\n")
    _, lines, _ = run("--scores", table, second)
    assert lines == run("--scores", table, "--scores", second)[1]
    assert lines[1].startswith(f"mine ({table})") and lines[2].startswith(f"mine ({second})")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is nothing to score; give --published, --scores or --runs"),
        (("--bootstrap", "many"), "argument --bootstrap: invalid int value: 'many'; see python"),
        (("--intervls",), "unknown option --intervls; did you mean '--intervals'?"),
        (("--published", "--agents", "Rainbo"), "unknown agent 'Rainbo'; did you mean 'Rainbow'?"),
        (("--published", "--bootstrap", "-1"), "--bootstrap is -1; expected at least 0"),
        (("--published", "--seed", "-1"), "--seed is -1; expected at least 0"),
        (("--scores", "none.csv"), "cannot read none.csv: No such file or directory"),
        (("--published", "--json", "none/out.json"), "cannot write none/out.json: No such file"),
    ],
)
def test_mistakes(run, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, lines, errors = run(*words)
    assert code == 2 and lines == []
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1


def test_a_source_given_twice_is_refused(run, table):
    code, _, errors = run("--scores", table, table)
    assert code == 2 and f"mine of {table} is given 2 times; give it once" in errors


def test_runs_and_their_logs_are_sources(run, tmp_path):
    logdir = tmp_path / "dreamer" / "Pong" / "seed-0"
    config = update(Config(), {"task": "atari_pong", "run": {"frames": 200_000_000}})
    run_folder.write(logdir, "fake", config)
    (logdir / "metrics.jsonl").write_text('{"frames": 200000000, "eval/return_mean": 20.0}\n')
    for source in (("--runs", tmp_path), ("--scores", logdir / "metrics.jsonl")):
        code, lines, _ = run(*source, "--agents", "dreamer")
        assert code == 0 and lines[1].split()[0] == "dreamer"
        assert "(1 of 55 tasks)" in lines[1]
