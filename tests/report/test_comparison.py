"""Runs beside published agents: which numbers stand beside which, and what is said of them."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from common.command import line as cli
from common.errors import UserError
from common.report import beside
from common.report.agents import in_words, same_options
from common.report.comparison import comparable, compare
from common.report.page import title, write_report
from common.report.read import read_run
from tests.report.test_report import Page, assert_self_contained

WALKER = "dmc_walker_walk"


@pytest.fixture(name="make")
def _make(tmp_path):
    """Returns a function that writes a run with these evaluations, and what its config says."""

    def make(name, evaluations, task=WALKER, seed=1, env="pixels: false, state: true", more=""):
        logdir = tmp_path / name
        logdir.mkdir()
        config = f"agent: dreamer\ntask: {task}\nseed: {seed}\nenv: {{{env}}}\nrun: {{{more}}}\n"
        (logdir / "config.yaml").write_text(config)
        lines = [{"frames": x, "eval/return_mean": y} for x, y in evaluations]
        lines = [{"frames": 0, "random/return_mean": 40.0}, *lines]
        (logdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return logdir

    return make


def run(*words):
    return cli.main("dreamer", lambda: None, [str(word) for word in words])


def names(found):
    return [one.agent.name for one in found.others]


def test_ours_is_read_at_the_frames_of_others(make):
    found = compare([read_run(make("one", [(10_000, 100), (30_000, 300), (99_000, 990)]))])
    others = {one.agent.name: one for one in found.others}
    marks = others["TD-MPC"].marks
    assert [mark.theirs.frames for mark in marks] == [20_000, 50_000, 80_000, 100_000]
    # Between evaluations on a line; the mark that is one percent late takes the last.
    assert [mark.ours.mean for mark in marks] == pytest.approx([200, 500, 800, 990])
    assert [mark.theirs.frames for mark in others["TD-MPC2"].marks] == [100_000]
    ours, theirs = others["TD-MPC"].areas()
    assert ours == pytest.approx(((200 + 500) * 15 + (500 + 800) * 15 + (800 + 990) * 10) / 80)
    means = [mark.theirs.mean for mark in marks]
    assert theirs == pytest.approx(np.trapezoid(means, [2e4, 5e4, 8e4, 1e5]) / 8e4)
    assert all(map(math.isnan, others["TD-MPC2"].areas()))
    assert found.random == 40 and found.seeds == ("1",)


def test_frames_that_were_not_reached_are_not_compared(make):
    found = compare([read_run(make("one", [(25_000, 500), (60_000, 500)]))])
    assert {mark.theirs.frames for one in found.others for mark in one.marks} == {50_000}
    assert "TD-MPC2" in found.elsewhere and "TD-MPC2" not in names(found)
    text = beside.as_text(found)
    assert "published at other frames than ours, which end at 60,000: TD-MPC2" in text
    none = compare([read_run(make("two", [(1000, 10.0)]))])
    assert "DreamerV3, 2023; " in beside.as_text(none)  # Names hold commas.
    assert not none.others and "nobody published returns" in beside.as_text(none)


def test_runs_of_one_task_are_seeds_of_one_curve(make):
    runs = [
        read_run(make("a", [(20_000, 300), (100_000, 900)], seed=1)),
        read_run(make("b", [(10_000, 100), (50_000, 500), (120_000, 960)], seed=2)),
    ]
    found = compare(runs)
    assert found.seeds == ("1", "2")
    assert [(point.frames, point.seeds) for point in found.points] == [
        (20_000, 2), (50_000, 2), (100_000, 2),
    ]  # fmt: skip
    assert found.points[1].mean == pytest.approx((300 + 600 * 3 / 8 + 500) / 2)
    assert any("where" in one and str(runs[0].logdir) in one for one in found.remarks)
    assert not any("differ" in one for one in found.remarks)
    assert "single seed" not in beside.as_text(found)


def test_runs_of_other_options_are_curves_of_their_own(make, capsys):
    curve = [(20_000, 300), (100_000, 900)]
    logdirs = [
        make("a", curve, more="frames: 1, train_every: 2"),
        make("b", curve, more="frames: 2, train_every: 4, eval_episodes: 1"),
        make("c", curve, more="frames: 3, train_every: 2, eval_episodes: 1", seed=2),
        make("d", curve, more="frames: 4, train_every: 2, eval_episodes: 5", seed=2),
    ]
    one, other, *alike = map(read_run, logdirs)
    with pytest.raises(UserError, match="are no seeds of one curve"):
        compare([one, other])
    assert compare([one, *alike]).remarks == (
        "several of these runs have the seed 2",
        "the runs differ in run.eval_episodes: 1, 5, None",
    )
    assert run("compare", "--logdir", *logdirs) == 0
    shown = capsys.readouterr().out
    assert "Dreamer (run.train_every 2) on walker_walk from state, seeds 1, 2, 2\n" in shown
    assert "Dreamer (run.train_every 4) on walker_walk from state, seed 1\n" in shown
    assert "returns of 1 evaluation episode by" in shown


PLANET = "agent: planet\nmodel: {}\nenv: {{pixels: false, state: true}}\ntask: dmc_walker_walk\n"


def test_agents_are_kept_apart_and_have_their_own_names(make, capsys):
    names = {"tdmpc2": "TD-MPC2", "tdm": "Token-level model", "world_model": "PlaNet"}
    logdirs = [make("dreamer", [(1e5, 600)])]
    for model in names:
        logdirs.append(make(model, [(1e5, 600)]))
        (logdirs[-1] / "config.yaml").write_text(PLANET.format(model))
    assert run("compare", "--logdir", *logdirs) == 0
    shown = capsys.readouterr().out
    for model, name in names.items():
        assert f"{name} on walker_walk from state" in shown
        assert title(read_run(logdirs[0].parent / model)) == f"{name} on dmc_walker_walk"
    assert "Dreamer on walker_walk from state, seed 1\n" in shown


def test_what_tells_curves_apart_is_said_shortly():
    settings = [
        {"joint": value, "seed": value, "b": {"x": i, "y": i}, "run": {"frames": i, "z": i}}
        for i, value in enumerate([False, True, True])
    ]
    assert in_words(settings[1:]) == ["b.x 1, b.y 1, run.z 1", "b.x 2, b.y 2, run.z 2"]
    assert in_words(settings)[0] == "joint false, b.x 0, b.y 0 and 1 more"
    assert in_words(settings[:1]) == [""]
    # What a version did not know yet tells nobody apart, but what two others say does.
    older = {name: value for name, value in settings[1].items() if name != "joint"}
    assert same_options([settings[1], older, settings[1] | {"joint": False}]) == [[0, 1], [2]]


def test_runs_of_other_challenges_are_no_seeds(make):
    curve = [(20_000, 300), (100_000, 900)]
    late = "pixels: false, state: true, challenge: {delay: {actions: 9}}"
    one = read_run(make("a", curve, env="pixels: false, state: true"))
    other = read_run(make("b", curve, env=late))
    with pytest.raises(UserError, match="are no seeds of one curve"):
        compare([one, other])
    assert compare([other]).label == "Dreamer with delay.actions 9"


def test_protocols_differ_in_words(make):
    env = "pixels: false, state: true, action_repeat: 4"
    run = read_run(make("one", [(20_000, 1), (1e5, 2)], env=env, more="eval_episodes: 3"))
    text = beside.as_text(compare([run]))
    assert "ours: action repeat 4, returns of 3 evaluation episodes by the policy's mode" in text
    assert "TD-MPC2 [nicklashansen/tdmpc2 (MIT)]: action repeat 2 (ours 4), returns of 10" in text
    assert "action repeat not stated (ours 4)" in text
    challenged = env + ", challenge: {delay: {actions: 3}}"
    run = read_run(make("two", [(20_000, 1), (1e5, 2)], env=challenged))
    assert "with challenges of env.challenge" in compare([run]).protocol.world
    game = read_run(make("pong", [(1e5, 1), (4e5, 2)], "atari_pong", env="sticky: 0.0"))
    found = compare([game])
    assert found.protocol.world == "no sticky actions, all 18 actions"
    assert "mostly no sticky actions" in beside.as_text(found)
    assert "DreamerV2" in found.elsewhere and "DIAMOND (100k)" in names(found)


def test_the_verdicts_are_counted_and_the_best_stands_first(make):
    found = compare([read_run(make("one", [(20_000, 990), (1e5, 990)]))])
    means = [one.last.theirs.mean for one in found.others]
    assert means == sorted(means, reverse=True)
    verdicts = [one.last.difference.verdict for one in found.others]
    assert beside.summary(found).startswith(
        f"ahead of {verdicts.count('ahead')}, behind {verdicts.count('behind')}, "
    )
    assert verdicts.count("ahead") > 4


@pytest.mark.parametrize(
    "words, message",
    [
        ({"task": "gym_CartPole-v1"}, "nothing published is known of the task 'gym_CartPole-v1'"),
        ({"task": "dmc_walker_walk@3"}, "nothing published is known of"),
        ({"env": "pixels: true, state: true"}, "both pixels and state"),
        ({"more": "data: somewhere"}, "counts updates"),
        ({"evaluations": []}, "there is no evaluation to compare yet"),
        ({"evaluations": [(1000, float("nan"))]}, "there is no evaluation to compare yet"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_no_part_of_a_report(make, words, message, capsys):
    logdir = make("one", **{"evaluations": [(20_000, 300), (1e5, 600)], **words})
    with pytest.raises(UserError, match=message):
        comparable(read_run(logdir))
    assert run("compare", "--logdir", logdir) == 2
    assert message in capsys.readouterr().err
    assert "Beside published agents" not in write_report(logdir).read_text()


def test_runs_of_different_tasks_are_no_seeds(make):
    one = read_run(make("a", [(20_000, 300)]))
    other = read_run(make("b", [(20_000, 300)], task="dmc_walker_run"))
    with pytest.raises(UserError, match="no seeds of one curve"):
        compare([one, other])
    late = read_run(make("c", [(90_000, 300)]))
    with pytest.raises(UserError, match="no frames in common"):
        compare([one, late])


@pytest.mark.parametrize("env", ["[1]", "{pixels: 3}", "{action_repeat: many, pixels: false}"])
def test_a_damaged_configuration_breaks_no_report(make, env):
    logdir = make("one", [(20_000, 300), (1e5, 600)])
    (logdir / "config.yaml").write_text(f"agent: dreamer\ntask: {WALKER}\nenv: {env}\nrun: 3\n")
    assert "300" in write_report(logdir).read_text()


def test_a_report_shows_the_run_beside_others(make):
    logdir = make("one", [(20_000, 300), (1e5, 600)])
    page = assert_self_contained(write_report(logdir))
    for words in ["Beside published agents", "TD-MPC2", "ours: Dreamer", "behind", "SimbaV2 10"]:
        assert words in page.text, words
    assert page.tags.count("svg") == 2
    drawn = (logdir / "report.html").read_text()
    assert drawn.count('<path class="whiskers') >= 4 and 'class="band ours"' not in drawn


def test_the_command_writes_what_it_shows(make, tmp_path, capsys):
    folders = [make(f"s{seed}", [(20_000, 300), (1e5, 600 + seed)], seed=seed) for seed in (1, 2)]
    folders += [make("cup", [(1e5, 600)], "dmc_cup_catch"), make("gym", [(1e5, 1)], "gym_X-v0")]
    folders += folders[:1]  # Twice is once.
    (tmp_path / "notes.txt").write_text("of mine")
    (tmp_path / "empty").mkdir()
    folders += [tmp_path / "notes.txt", tmp_path / "empty"]
    assert run("compare", "--logdir", *folders, "--out", tmp_path / "page.html") == 0
    shown = capsys.readouterr()
    assert "Dreamer on walker_walk from state, seeds 1, 2\n" in shown.out
    assert "Dreamer on cup_catch from state, seed 1\n" in shown.out
    notes = shown.err.splitlines()
    assert len(notes) == 3 and all(line.startswith("note: ") for line in notes)
    assert "gym_X-v0" in notes[0] and "no run in" in notes[1] and "notes.txt" in notes[1]
    page = assert_self_contained(tmp_path / "page.html")
    assert "Dreamer on cup_catch from state, seed 1" in page.text and page.tags.count("svg") == 2
    assert run("compare", "--logdir", folders[0], folders[1], "--out", tmp_path / "t.csv") == 0
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    (row,) = (x for x in rows if x["agent"] == "TD-MPC" and float(x["frames"]) == 20_000)
    assert float(row["ours"]) == 300 and row["theirs_seeds"] == "5" and row["ours_seeds"] == "2"
    assert float(row["ours"]) - float(row["theirs"]) == pytest.approx(float(row["difference"]))
    assert {x["runs"] for x in rows} == {"Dreamer on walker_walk from state, seeds 1, 2"}


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "name the runs' folders"),
        ("--logdir nowhere", "there is no run in"),
        ("--logdir {run} --out page.txt", "must end in .html or .csv"),
        ("--logdir {run} --out nowhere/page.html", "lies in no folder that there is"),
        ("--logdir {run} --frames 3", "unknown option --frames"),
    ],
)
def test_mistakes_are_one_line(make, words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logdir = make("run", [(1e5, 600)])
    assert run("compare", *words.format(run=logdir).split()) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and not shown.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_page_names_every_agent_once(make, tmp_path):
    path = write_report(make("one", [(20_000, 300), (1e5, 600)]))
    assert Page(path).text.count("denisyarats/pytorch_sac (MIT)") == 1
