"""Scores from tables of others and from run folders, and what is refused."""

from __future__ import annotations

import collections
import csv
import io
import json
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from benchmarks.page.results import differences
from benchmarks.scores.read import read_runs, read_scores
from benchmarks.scores.rows import COLUMNS
from benchmarks.suites import Protocol, suite
from common.config import update
from common.errors import UserError
from common.logging import JsonlSink
from common.run import folder as run_folder
from common.run.sinks import open_logger
from tests.fake_agent import Config

ATARI = suite("atari")
HEADER = "game,seed,frames,return\n"
LINE = '{"game": "Pong", "seed": 0, "frames": 200000000, "return": %s}'
RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "learning"


@pytest.fixture
def table(tmp_path):
    """Writes a table and reads it."""

    def read(text, name="mine.csv", of=ATARI):
        path = tmp_path / name
        path.write_text(text)
        return read_scores(path, of)

    return read


def test_long_format(table):
    agent = table(
        HEADER + "Pong,1,200000000,20\nPong,0,2e8,18.5\natari_alien,0,200000000,4000\n"
        "Pong,0,100000000,7\nPong,0,300000000,99\n"
    )
    assert agent.name == "mine" and not agent.published and agent.notes == ()
    assert agent.scores["Pong"].tolist() == [18.5, 20] and agent.seeds == {"Alien": 1, "Pong": 2}
    assert agent.scores["Alien"].tolist() == [4000]
    assert agent.protocol == Protocol(200_000_000, None)
    curve = agent.curves["Pong"]
    assert curve.frames.tolist() == [100_000_000, 200_000_000, 300_000_000]
    np.testing.assert_array_equal(curve.returns, [[7, 18.5, 99], [np.nan, 20, np.nan]])


def test_json_lines(table):
    rows = [{"game": "Pong", "seed": seed, "frames": 2e8, "return": seed} for seed in (3, 4)]
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    assert table(text, "mine.jsonl").scores["Pong"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("names", "game"),
    [
        ("Pong pong PONG atari_pong ALE/Pong-v5 PongNoFrameskip-v4 Pong-v0 PongDeterministic-v4",
         "Pong"),
        ("ms_pacman MsPacman ALE/MsPacman-v5 MsPacmanNoFrameskip-v4 atari_ms_pacman", "Ms Pacman"),
    ],
)  # fmt: skip
def test_games_by_the_names_of_others(table, names, game):
    game = next(known for known in ATARI.tasks if known.replace(" ", "") == game.replace(" ", ""))
    for name in names.split():
        assert list(table(HEADER + f" {name} ,0,2e8,20\n").scores) == [game], name


def test_marks_of_bytes_separators_and_capitals(tmp_path):
    base = "Game,SEED,frames,Return\nPong,0,200000000,20\n\n  \n"
    texts = {"a.csv": base, "b.csv": base.replace(",", ";"), "c.csv": base.replace(",", "\t"),
             "d.csv": base.replace(",", " | "), "e.csv": base.replace("\n", "\r\n"),
             "f.jsonl": LINE % 20, "g.json": (LINE % 20).replace("game", "Task")}  # fmt: skip
    for name, text in texts.items():
        for encoding in ("utf-8", "utf-8-sig"):
            (tmp_path / name).write_bytes(text.encode(encoding))
            assert read_scores(tmp_path / name, ATARI).scores["Pong"].tolist() == [20], name


_CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)
_FORMATS = ("{}", "{:g}", "{:.3f}", "{:e}", "{:+}")


@st.composite
def _tables(draw):
    """A table with columns of its own in any order, written by Python's csv module."""
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(list(ATARI.tasks)), st.integers(0, 3), st.integers(1, 9)),
            min_size=1, max_size=8, unique=True,
        )
    )  # fmt: skip
    columns = draw(st.permutations([*COLUMNS, "extra", "note"]))
    finite = st.floats(-1e9, 1e9, allow_nan=False)
    stream = io.StringIO()
    separator = draw(st.sampled_from(",;\t|"))
    writer = csv.writer(
        stream, delimiter=separator, quoting=draw(st.sampled_from([0, 1])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
    )  # fmt: skip
    writer.writerow(columns)
    for game, seed, frames in keys:
        row = {"game": game, "seed": seed, "frames": frames * 10**7, "extra": draw(_CELL)}
        row |= {"return": draw(st.sampled_from(_FORMATS)).format(draw(finite)), "note": draw(_CELL)}
        writer.writerow([row[name] for name in columns])
    return stream.getvalue(), separator


@hypothesis.given(_tables())
@hypothesis.settings(max_examples=60, deadline=None)
def test_tables_are_read_as_pythons_own_module_reads_them(tmp_path_factory, drawn):
    text, separator = drawn
    path = tmp_path_factory.mktemp("scores") / "x.csv"
    path.write_bytes(text.encode())
    agent = read_scores(path, ATARI)
    wanted = collections.defaultdict(dict)
    for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=separator):
        wanted[row["game"], int(row["seed"])][int(row["frames"])] = float(row["return"])
    found = {}
    for game, curve in agent.curves.items():
        seeds = sorted(seed for name, seed in wanted if name == game)
        for seed, returns in zip(seeds, curve.returns, strict=True):
            pairs = zip(curve.frames.tolist(), returns.tolist(), strict=True)
            found[game, seed] = {x: y for x, y in pairs if y == y}
    assert found == dict(wanted)


def test_runs_that_stop_early_count_with_their_last_score_and_are_noted(table):
    agent = table(HEADER + "Pong,0,2e8,20\nPong,1,1e7,-3\nPong,1,12e6,-2\nPong,2,15e6,1\n")
    assert agent.scores["Pong"].tolist() == [20, -2, 1]
    assert agent.notes == (
        "stopped before 200M frames and counted with their last score: "
        "Pong 2 of 3 seeds at 12M to 15M",
    )
    assert agent.protocol.frames == 200_000_000
    assert table(HEADER + "Pong,1,12e6,-2\n").protocol.frames == 12_000_000


def test_seeds_without_a_score_in_time_are_noted(table):
    agent = table(HEADER + "Pong,0,2e8,20\nPong,1,3e8,21\nAlien,0,3e8,5\n")
    assert set(agent.scores) == {"Pong"} and agent.scores["Pong"].tolist() == [20]
    assert agent.notes == ("no score within 200M frames: Alien seed 0; Pong seed 1",)


def test_evaluations_a_few_frames_apart_are_one_point_of_the_curve(table):
    agent = table(HEADER + "Pong,0,100000004,1\nPong,1,1e8,2\nPong,0,200000016,3\nPong,1,2e8,4\n")
    assert agent.scores["Pong"].tolist() == [3, 4] and agent.notes == ()
    assert agent.curves["Pong"].frames.tolist() == [100_000_000, 200_000_000]
    assert agent.curves["Pong"].returns.tolist() == [[1, 3], [2, 4]]


def test_our_own_records_are_such_tables():
    agent = read_scores(RESULTS / "walker_walk_state.csv", suite("dmc_proprio"))
    record = json.loads((RESULTS / "walker_walk_state.json").read_text())
    assert agent.scores["walker_walk"].tolist() == record["final_evaluation_return"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'game'; expected game, seed, frames, return"),
        ("score;run\n1;2\n", "has no column 'game' but 'score;run'; expected game, seed, frames"),
        ("game,seed,seed,frames,return\n", "two columns 'seed'; keep one of them"),
        ("game,seed,frames\nPong,0,1\n", "has no column 'return'"),
        (HEADER, "holds no scores"),
        (HEADER + "Pnog,0,1,2\n", "line 2: unknown game 'Pnog'; did you mean 'Pong'?"),
        (HEADER + "Pong,0,1,2\nPong,0,1,3\n", "line 3: Pong, seed 0, frames 1 is there already in "
                                              "line 2; keep one of them"),
        (HEADER + "Pong,0,1,2\natari_pong,0,1,3\n", "is there already in line 2"),
        (HEADER + "Pong,0,1,high\n", "line 2: return is 'high'; expected a finite number"),
        (HEADER + "Pong,0,1,nan\n", "return is 'nan'; expected a finite number"),
        (HEADER + "Pong,0,1\n", "return is None; expected a finite number"),
        (HEADER + "Pong,0,1,2,5\n", "line 2: expected a finite number in every column: the row has "
                                   "5 cells, the header 4 (a comma inside of a number?)"),
        (HEADER.replace(",", ";") + "Pong;0;1;2,5\n", "return is '2,5'; expected a finite number "
                                                      "with a point, not a comma"),
        (HEADER + 'Pong,0,1,"2"5\n', "line 2 is not CSV"),
        (HEADER + "Pong,0,1,1_000\n", "return is '1_000'; expected a finite number"),
        (HEADER + "Pong,0,1,1e400\n", "return is '1e400'; expected a finite number"),
        (HEADER + "Pong,0,1,\u0661\n", "return is '\u0661'; expected a finite number"),
        (HEADER + f"Pong,0,1,{'9' * 400}\n", f"return is '{'9' * 60}...'; expected a finite"),
        (HEADER + "Pong,0,1e19,2\n", "frames is '1e19'; expected at most 9,223,372,036,"),
        (HEADER + "PnogNoFrameskip-v4,0,1,2\n", "'PnogNoFrameskip-v4'; did you mean 'Pong'?"),
        (HEADER + "ALE/Pong-ram-v5,0,1,2\n", "unknown game 'ALE/Pong-ram-v5'"),
        (HEADER + "Pong,one,1,2\n", "seed is 'one'; expected a finite number"),
        (HEADER + "Pong,0.5,1,2\n", "seed is '0.5'; expected a whole number"),
        (HEADER + "Pong,0,-5,2\n", "frames is -5; expected more than 0"),
    ],
)  # fmt: skip
def test_mistakes_in_tables(table, text, message):
    with pytest.raises(UserError) as error:
        table(text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Pong\n", "line 1 is not JSON"),
        ('{"game": "Pong", "seed": 0, "frames": 1}', "line 1 has no 'return'"),
        ("[1]", "line 1 has no 'game'"),
        (
            '{"step": 1000, "episode/score": -21.0}',
            "no 'game' but 'step', 'episode/score'; expected "
            "game, seed, frames, return: lines of one DreamerV2 or DreamerV3 run do not say",
        ),
        (LINE % 9 + "[" * 100_000, "line 1 is not JSON; expected one flat object"),
        ("\n" + "[" * 100_000, "line 2 is not JSON; expected one flat object"),
        (LINE % ("9" * 400), f"return is '{'9' * 60}...'; expected a finite number"),
        (LINE % ("9" * 5000), "expected a finite number"),
        (LINE % "true", "return is True; expected a finite number"),
        (LINE % '{"a": 1}', "expected a finite number"),
        (LINE % "NaN", "return is 'NaN'; expected a finite number"),
        (LINE % '3, "return": 4', "line 1 says 'return' twice; keep one of them"),
        ('{"game": "Pong", "seed": 0, "frames": 1, "return": null}', "return is None"),
    ],
)
def test_mistakes_in_json_lines(table, text, message):
    with pytest.raises(UserError) as error:
        table(text, "mine.jsonl")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    for name in ("none.csv", "none.jsonl"):
        with pytest.raises(UserError, match=f"cannot read .*{name}: No such file"):
            read_scores(tmp_path / name, ATARI)
    for name in ("bytes.csv", "bytes.jsonl"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match="is not a"):
            read_scores(tmp_path / name, ATARI)


@pytest.fixture
def make_run(tmp_path):
    """Writes the folder of a run with given evaluations."""

    def make(place, evaluations, task="atari_pong", frames=200_000_000, **changes):
        logdir = tmp_path / "logdir" / place
        seed = int(place[-1])
        values = {"task": task, "seed": seed, "run": {"frames": frames}} | changes
        run_folder.write(logdir, "fake", update(Config(), values))
        logger = open_logger(logdir, JsonlSink(logdir / "metrics.jsonl"))
        logger.write(0, {"random/return_mean": -20.7})
        for x, value in evaluations:
            logger.write(x, {"eval/return_mean": value, "eval/return_std": 0.0})
        logger.close()
        return tmp_path / "logdir"

    return make


def test_runs_of_several_agents(make_run):
    full = [(100_000_000, 5.0), (200_000_004, 20.0)]
    make_run("one/Pong/seed-0", full)
    make_run("one/Pong/seed-1", [(100_000_000, 7.0), (200_000_000, 21.0)])
    make_run("one/atari_alien/seed-0", full, task="atari_alien")
    logdir = make_run("two/Pong/seed-3", full)
    one, two = read_runs(logdir, ATARI)
    assert (one.name, two.name) == ("one", "two")
    assert one.protocol == ATARI.protocol and one.notes == ()
    assert one.scores["Pong"].tolist() == [20, 21] and one.scores["Alien"].tolist() == [20]
    assert one.curves["Pong"].returns.tolist() == [[5, 20], [7, 21]]
    assert one.curves["Pong"].frames.tolist() == [100_000_000, 200_000_000]
    assert two.scores["Pong"].tolist() == [20]


def test_unfinished_runs_are_noted(make_run):
    make_run("a/Pong/seed-0", [(200_000_000, 20.0)])
    make_run("a/Pong/seed-1", [(12_000_000, -5.0)])
    make_run("a/Pong/seed-2", [(12_000_000, float("nan"))])
    logdir = make_run("a/Alien/seed-0", [], task="atari_alien")
    (agent,) = read_runs(logdir, ATARI)
    assert agent.scores["Pong"].tolist() == [20, -5] and "Alien" not in agent.scores
    assert agent.notes == (
        "no score within 200M frames: Alien seed 0; Pong seed 2",
        "stopped before 200M frames and counted with their last score: Pong 1 of 3 seeds at 12M",
    )


def test_a_run_of_fewer_frames_is_of_another_protocol_and_not_unfinished(make_run):
    logdir = make_run("a/Pong/seed-0", [(50_000_000, 20.0)], frames=50_000_000)
    (agent,) = read_runs(logdir, ATARI)
    assert agent.protocol.frames == 50_000_000 and agent.notes == ()


def test_a_run_of_more_frames_is_scored_at_those_of_the_benchmark(make_run):
    evaluations = [(100_000_000, 1.0), (200_000_000, 2.0), (400_000_000, 3.0)]
    (agent,) = read_runs(make_run("a/Pong/seed-0", evaluations, frames=400_000_000), ATARI)
    assert agent.scores["Pong"].tolist() == [2] and agent.protocol == ATARI.protocol


def test_runs_of_different_protocols_are_different_agents(make_run):
    full = [(200_000_000, 20.0)]
    make_run("a/Pong/seed-0", full)
    logdir = make_run("a/Pong/seed-1", full, env={"sticky": 0.0, "all_actions": False})
    first, second = read_runs(logdir, ATARI)
    assert first.name == "a (200M frames, sticky 0.25, 18 actions, pixels, evaluation returns)"
    assert second.protocol == Protocol(200_000_000, "evaluation", 0.0, "minimal")
    assert len(first.scores["Pong"]) == len(second.scores["Pong"]) == 1


def test_challenges_are_part_of_the_protocol(make_run):
    task, million = "dmc_walker_walk", 1_000_000
    state = {"pixels": False, "state": True}
    make_run("a/walker_walk/seed-0", [(million, 900.0)], task, million, env=state)
    late = state | {"challenge": {"delay": {"actions": 3}, "safety": {"coeff": 0.5}}}
    logdir = make_run("a/walker_walk/seed-1", [(million, 500.0)], task, million, env=late)
    benchmark = suite("dmc_proprio")
    plain, challenged = read_runs(logdir, benchmark)
    assert plain.protocol == benchmark.protocol and plain.scores["walker_walk"].tolist() == [900]
    assert challenged.protocol.challenges == ("delay.actions 3", "safety.coeff 0.5")
    assert "delay.actions 3" in challenged.name
    assert differences(challenged.protocol, benchmark.protocol) == (
        "challenge: delay.actions 3", "challenge: safety.coeff 0.5",
    )  # fmt: skip


def test_folders_laid_out_otherwise_are_named_after_the_command(make_run):
    (agent,) = read_runs(make_run("x-1", [(200_000_000, 20.0)]), ATARI)
    assert agent.name == "fake"


def test_one_seed_twice_is_refused(make_run):
    make_run("x-1", [(200_000_000, 20.0)])
    logdir = make_run("y-1", [(200_000_000, 20.0)])
    with pytest.raises(UserError, match="x-1 and .*y-1 are both seed 1 of Pong; move one"):
        read_runs(logdir, ATARI)


def test_runs_of_other_benchmarks_are_left_out(make_run):
    task, million = "dmc_walker_walk", 1_000_000
    make_run("a/walker_walk/seed-0", [(million, 900.0)], task, million)
    inputs = {"pixels": False, "state": True}
    make_run("a/walker_walk/seed-1", [(million, 950.0)], task, million, env=inputs)
    both = {"pixels": True, "state": True}  # Easier than the image alone.
    make_run("a/walker_walk/seed-2", [(million, 990.0)], task, million, env=both)
    logdir = make_run("a/Pong/seed-0", [(million, 1.0)])
    (pixels,), (state,) = read_runs(logdir, suite("dmc")), read_runs(logdir, suite("dmc_proprio"))
    assert pixels.scores["walker_walk"].tolist() == [900]
    assert state.scores["walker_walk"].tolist() == [950, 990]
    assert state.protocol == suite("dmc_proprio").protocol
    assert state.notes[0].startswith("2 runs of ") and state.notes[0].endswith("left out")


def test_folders_without_runs_are_refused(make_run, tmp_path):
    (tmp_path / "config.yaml").write_text("learning_rate: 0.1\n")
    with pytest.raises(UserError, match="holds no runs; expected runs of atari from pixels"):
        read_runs(tmp_path, ATARI)
    logdir = make_run("a-0", [], task="dmc_walker_walk")
    with pytest.raises(UserError, match="holds only runs of dmc_walker_walk; expected runs of"):
        read_runs(logdir, ATARI)
    with pytest.raises(UserError, match="holds no runs"):
        read_runs(tmp_path / "nowhere", ATARI)


def test_damaged_lines_are_left_out_and_counted(make_run):
    logdir = make_run("a-0", [(100, 1.0), (200_000_000, 20.0)])
    path = logdir / "a-0" / "metrics.jsonl"
    damage = [
        b'{"frames": \xff, "eval/return_mean": 3}',
        b'{"frames": 1e400, "eval/return_mean": 3}',
        b'{"frames": 3.5, "eval/return_mean": 3}',
        b'{"frames": null, "eval/return_mean": 3}',
        b'{"frames": -9, "eval/return_mean": 3}',
        b'{"frames": 9, "eval/return_mean": "3"}',
        b'{"eval/return_mean": 3}',
        b'["eval/return_mean"]',
    ]
    path.write_bytes(b"\n".join([*damage, path.read_bytes()]))
    (agent,) = read_runs(logdir, ATARI)
    assert agent.scores["Pong"].tolist() == [20]
    assert agent.notes == (f"8 damaged lines of {path} are left out",)


@pytest.mark.parametrize("value", ["[]", "3", "{frames: x}", "{}"])
def test_a_configuration_of_something_else_is_named(make_run, value):
    logdir = make_run("a-0", [(200_000_000, 20.0)])
    path = logdir / "a-0" / "config.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("run:")] + f"run: {value}\n")
    with pytest.raises(UserError, match="config.yaml holds other options than a run of this"):
        read_runs(logdir, ATARI)


def test_half_a_line_is_left_out(make_run):
    logdir = make_run("a-0", [(100, 1.0), (200_000_000, 20.0)])
    with (logdir / "a-0" / "metrics.jsonl").open("a") as file:
        file.write('{"frames": 200000001, "eval/return_mean"')
    assert read_runs(logdir, ATARI)[0].scores["Pong"].tolist() == [20]
