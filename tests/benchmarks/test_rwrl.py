"""The sweep over challenges: its points, its measures against slow loops, its table and page."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.jobs import plan as plans
from benchmarks.page.figures import new_figure
from benchmarks.rwrl import figures
from benchmarks.rwrl.measures import measure
from benchmarks.rwrl.points import POINTS, SCALES, find_point
from benchmarks.rwrl.results import by_point, read_rows
from benchmarks.suites import suite
from common.command import flags
from common.command.presets import load_presets, resolve
from common.config import difference, options, update
from common.envs.challenges import ChallengeConfig
from common.errors import UserError
from common.run import folder as run_folder
from common.run.folder import METRICS
from dreamer.program import load_program
from tests.benchmarks.scripted import leave

VARIED = {
    "action_delay": ("delay.actions", {}), "observation_delay": ("delay.observations", {}),
    "reward_delay": ("delay.rewards", {}), "action_noise": ("gaussian.actions", {}),
    "observation_noise": ("gaussian.observations", {}),
    "dropped": ("dropped.observations_prob", {}), "stuck": ("stuck.observations_prob", {}),
    "repetition": ("repetition.actions_steps", {"repetition.actions_prob": 1.0}),
    "dimensions": ("dimensions", {}),
    "perturbed": ("perturb.strength", {"perturb.param": "auto", "perturb.scheduler": "uniform"}),
    "safety": ("safety.coeff", {"safety.constraints": ("all",)}),
}  # fmt: skip
"""The option that each challenge varies, and what else is on."""


@pytest.mark.parametrize("name", POINTS)
def test_every_point_is_what_its_name_says(name):
    program, (task, point) = load_program(), find_point(f"walker_walk.{name}")
    given = flags.parse_flags(point.words, program.default_config)
    config = resolve(program, ("dmc_proprio", *given.configs), given.values)
    changed = {one.path: one.after for one in difference(ChallengeConfig(), config.env.challenge)}
    challenge, strength = name.rsplit("-", 1)
    assert (task, point.challenge, point.strength) == ("walker_walk", challenge, strength)
    if challenge == "combined":
        preset = load_presets([f"rwrl_{strength}"], "dreamer")["env"]["challenge"]
        assert config.env.challenge == update(ChallengeConfig(), preset)
    elif challenge == "none":
        assert not changed
    else:
        option, always = VARIED[challenge]
        assert {key: x for key, x in changed.items() if key != option} == always
        values = {one.path: one.value for one in options(config.env.challenge)}
        assert str(values[option]).removesuffix(".0") == strength


def test_a_task_has_every_point_and_patterns_choose_among_them():
    one = suite("rwrl")
    assert len(one.tasks) == 13 * len(POINTS) and len(POINTS) == 1 + 11 * 3 + 3
    assert one.tasks["walker_walk.action_delay-3"] == "rwrl_walker_walk"
    chosen = plans.choose_games(one, ["walker_walk.*_delay-[39]", "cartpole_balance.none-0"])
    assert chosen == ["cartpole_balance.none-0", *(
        f"walker_walk.{what}_delay-{steps}"
        for what in ("action", "observation") for steps in (3, 9)
    )]  # fmt: skip
    assert len(plans.choose_games(one, ["rwrl_humanoid_walk"])) == len(POINTS)
    with pytest.raises(UserError, match="rwrl has no game 'walker_fly.*'"):
        plans.choose_games(one, ["walker_fly.*"])


def slow_measures(returns, window):
    """The measures by their words."""
    t = {5: 2.776445, 25: 2.063899, 101: 1.983972}[window]
    means = [sum(returns[i : i + window]) / window for i in range(len(returns) - window + 1)]
    last = returns[-window:]
    deviation = math.sqrt(sum((x - means[-1]) ** 2 for x in last) / (window - 1))
    lower = means[-1] - t * deviation / math.sqrt(window)
    convergence = max(1, next(i for i, mean in enumerate(means) if mean >= lower))
    regret = sum(means[-1] - x for x in returns[:convergence]) / means[-1]
    later = returns[convergence + 1 :]
    return means[-1], convergence, regret, sum(x < lower for x in later) / len(later)


@pytest.mark.parametrize(("episodes", "window"), [(20, 5), (100, 25), (600, 101)])
@pytest.mark.parametrize("seed", [0, 1])
def test_measures_are_those_of_a_slow_loop(episodes, window, seed):
    rng = np.random.default_rng(seed)
    returns = 900 / (1 + np.exp(-np.linspace(-5, 6, episodes))) + rng.normal(0, 60, episodes)
    found = measure(returns)
    assert found.window == window
    np.testing.assert_allclose(found[:4], slow_measures(list(returns), window), rtol=1e-5)


def test_few_episodes_have_no_measures_and_equal_ones_no_regret():
    assert measure([1.0] * 19) is None
    found = measure([5.0] * 40)
    assert found.final == 5 and found.convergence == 1 and found.instability == 0
    assert found.regret == pytest.approx(0)


SCORES = {
    "none-0": (800, 700), "observation_delay-3": (600, 500), "observation_delay-9": (200, 100),
    "safety-0.3": (750, 730),
}  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep whose runs are made up: two seeds each, one not finished."""
    logdir = tmp_path_factory.mktemp("rwrl")
    games = [f"{task}.{point}" for task in ("walker_walk", "cartpole_swingup") for point in SCORES]
    plan = plans.make(suite("rwrl"), logdir, "dreamer", (), games, 2, ("--run.frames", "30e3"))
    plans.write(plan)
    for job in plan.jobs:
        task, point = find_point(job.game)
        if (task, point.challenge, job.seed) == ("cartpole_swingup", "safety", 1):
            continue
        make_run(plan, job, SCORES[f"{point.challenge}-{point.strength}"][job.seed], point)
    return plan


def make_run(plan, job, score, point):
    """The files of a finished run."""
    leave(plan, job, 30_000, finished=30_000)
    folder = plan.folder(job)
    costs = {"eval/cost_mean": 12.5} if point.challenge == "safety" else {}
    others = {"eval/return_std": 2.0, "eval/return_min": 0.0, "eval/return_max": 900.0}
    lines = [{"frames": 0, "random/return_mean": 50.0},
             {"frames": 9, "eval/return_mean": 1.0, **others},
             {"frames": 30_000, "eval/return_mean": float(score), **others, **costs},
             {"frames": 30_000, "time/elapsed_s": 61.2}]  # fmt: skip
    write_lines(folder / METRICS, lines)
    (folder / run_folder.CONFIG).write_text(
        f"agent: dreamer\nseed: {job.seed}\ntask: {job.task}\n"
        "env: {challenge: {dimensions: 3}}\n"
    )
    command = f"command dreamer train --logdir {folder} --run.frames 30e3"
    (folder / run_folder.VERSIONS).write_text(f"{command}\npython 3.11\n")
    violated = {"violated/upright": 3} if costs else {}
    episodes = [{"frames": i, "return": score + i, **violated} for i in range(30)]
    write_lines(folder / run_folder.SCORES, episodes)


def write_lines(path, lines):
    """Writes JSON lines."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_rows_say_what_each_run_reached(sweep):
    rows = read_rows(sweep)
    assert len(rows) == 15
    found = {(row.task, row.challenge, row.strength, row.seed): row for row in rows}
    row = found["walker_walk", "safety", "0.3", 1]
    assert (row.score, row.random, row.cost, row.violated) == (730, 50, 12.5, {"upright": 90})
    assert row.measures == measure([730 + i for i in range(30)])
    assert found["walker_walk", "none", "0", 0].cost is None
    points = by_point(rows)
    assert set(points) == {
        (task, challenge) for challenge in ("observation_delay", "safety")
        for task in ("walker_walk", "cartpole_swingup")
    }  # fmt: skip
    delays = points["walker_walk", "observation_delay"]
    assert {strength: [row.score for row in some] for strength, some in delays.items()} == {
        "0": [800, 700], "3": [600, 500], "9": [200, 100],
    }  # fmt: skip


def test_score_prints_a_line_for_every_point(sweep, capsys):
    assert main(["rwrl", "score", "--logdir", str(sweep.logdir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 8 and lines[0].split()[:4] == [
        "task",
        "challenge",
        "strength",
        "seeds",
    ]
    safety = next(line for line in lines if line.split()[:2] == ["walker_walk", "safety"])
    assert safety.split()[2:8] == ["0.3", "2", "740", "750", "730", "50"]
    assert "upright 90" in safety and " 12 " in safety


def test_the_page_holds_the_table_and_its_picture(sweep, tmp_path, capsys):
    words = ["rwrl", "report", "--logdir", str(sweep.logdir), "--out", str(tmp_path / "page")]
    assert main(words) == 0
    assert capsys.readouterr().out.endswith("report.html\n")
    page = (tmp_path / "page" / "report.html").read_text()
    assert "data:image/png;base64," in page and page.count("<tr>") == 1 + 8
    assert 'src="http' not in page and "<h1>rwrl: 15 runs, 2 tasks</h1>" in page
    assert page.index("a dot is a run") < page.index("<img") < page.index("Costs are sums")
    table = (tmp_path / "page" / "results.csv").read_text().splitlines()
    assert len(table) == 9 and table[0].startswith("task,challenge,strength")
    assert (tmp_path / "page" / "returns.png").stat().st_size > 10_000
    lines = (tmp_path / "page" / "curves.jsonl").read_text().splitlines()
    assert len(lines) == 15 and json.loads(lines[0]) == {
        "point": "cartpole_swingup.none-0", "seed": 0, "random": 50, "seconds": 61,
        "evaluations": [[9, 1, 2, 0, 900], [30_000, 800, 2, 0, 900]],
        "challenge": {"dimensions": 3},
        "versions": ["command dreamer train --run.frames 30e3", "python 3.11"],
    }  # fmt: skip


def test_one_run_is_no_runs(tmp_path, capsys):
    games = ["walker_walk.none-0"]
    plan = plans.make(suite("rwrl"), tmp_path, "dreamer", (), games, 1, ("--run.frames", "30e3"))
    plans.write(plan)
    make_run(plan, plan.jobs[0], 700, POINTS["none-0"])
    assert main(["rwrl", "report", "--logdir", str(tmp_path)]) == 0
    assert "<h1>rwrl: 1 run, 1 task</h1>" in (tmp_path / "page" / "report.html").read_text()


UNTRIED = ("cartpole_swingup", "safety")


def words_of(texts):
    return [text.get_text() for text in texts]


def test_a_chart_names_its_axes_and_what_is_drawn(sweep, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(figures, "new_figure", lambda *x: kept.append(new_figure(*x)) or kept[0])
    rows = [row for row in read_rows(sweep) if (row.task, row.challenge) != UNTRIED]
    figures.draw(by_point(rows), tmp_path / "it.png")
    delay, untried, other, safety = kept[0].axes
    for one, task in ((delay, "cartpole swingup"), (other, "walker walk")):
        assert one.get_ylabel() == f"{task}\nreturn" and one.get_xlabel() == "delay (agent steps)"
        assert words_of(one.get_xticklabels()) == ["none", "3", "9"]
        assert {x.get_verticalalignment() for x in one.get_xticklabels()} == {"baseline"}
    assert safety.get_xlabel() == "coefficient, less is harder"
    assert words_of(untried.texts) == ["not run"] and not untried.lines
    assert {one.get_ylim() for one in kept[0].axes} == {(-40, 1040)}
    assert words_of(kept[0].legends[0].get_texts()) == [
        "a run (one seed)", "mean of the runs", "random policy",
    ]  # fmt: skip
    dots, mean, random = (list(line.get_ydata()) for line in delay.lines)
    assert dots == [800, 700, 600, 500, 200, 100]
    assert mean == [750, 550, 150] and random == [50, 50, 50]


def test_every_challenge_says_what_its_strengths_are():
    assert set(SCALES) == {point.challenge for point in POINTS.values()}
    assert [name for name, scale in SCALES.items() if not scale] == ["none"]


@pytest.mark.parametrize(
    ("configs", "options"),
    [((), ["--env.challenge.delay.actions", "9"]), (("dmc_proprio", "rwrl_easy"), [])],
)
def test_no_other_challenge_is_filed_under_a_point(configs, options, tmp_path):
    with pytest.raises(UserError, match="sets the challenge of every run; leave env.challenge.del"):
        plans.make(suite("rwrl"), tmp_path, "dreamer", configs, ["*.none-0"], 1, options)
    plans.make(suite("dmc_proprio"), tmp_path, "dreamer", configs, ["walker_walk"], 1, options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["score", "--logdir", "{empty}"], "there is no job list in"),
        (["report", "--logdir", "{none}"], "no run in .* has finished; python -m benchmarks rwrl"),
        (["score", "--logdir", "{other}"], "holds a benchmark of dmc, not of rwrl"),
        (["score"], "the following arguments are required: --logdir"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, said):
    folders = {name: tmp_path / name for name in ("empty", "none", "other")}
    for name, which in (("none", "rwrl"), ("other", "dmc")):
        game = ["walker_walk.none-0"] if which == "rwrl" else ["walker_walk"]
        plans.write(plans.make(suite(which), folders[name], "dreamer", (), game, 1, ()))
    assert main(["rwrl", *(word.format(**folders) for word in words)]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert re.search(said, error), error
