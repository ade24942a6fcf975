import base64
import dataclasses
import html.parser
import json
import pathlib
import re

import numpy as np
import pytest

from benchmarks.tdm import claims, experiments, plots, pretrain, report, runner, summary, work
from benchmarks.tdm.ensemble import EnsembleConfig
from benchmarks.tdm.fitting import Fitting
from benchmarks.tdm.presets import PRESETS, SMALL, Family, preset
from benchmarks.tdm.work import Cell, Work
from common.envs.dmc import task_names
from common.envs.dmc_rewards import find_reward
from common.errors import UserError
from common.planner import PlannerConfig
from common.tokens.config import TDMConfig
from tests.benchmarks.tdm_linear import linear_episode

RESULTS = pathlib.Path(experiments.__file__).resolve().parent.parent / "results" / "tdm"
FIT = Fitting(updates=2, batch=2, window=4)
TINY = dataclasses.replace(
    SMALL,
    name="tiny",
    tasks=("dmc_cartpole_swingup",),
    families=(Family("dmc_cartpole_swingup", (1,), (2,)),),
    shots=(1,),
    policies={"random": 3},
    time_limit=64,
    held_back=1,
    context=3,
    horizon=2,
    windows=2,
    samples=1,
    episodes=1,
    planner=PlannerConfig(horizon=2, iterations=1, candidates=4, top=2),
    tdm=TDMConfig(
        tokeniser="uniform", bins=8, order="parallel", context=3, layers=1, heads=1, width=8,
        units=8,
    ),
    ensemble=EnsembleConfig(2, 1, 8),
    fits=dict.fromkeys(SMALL.fits, FIT),
)  # fmt: skip


def test_all_experiments_from_nothing_to_the_page_and_never_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "preset", lambda name: TINY)
    monkeypatch.setattr(report, "preset", lambda name: TINY)
    monkeypatch.setattr(runner, "EXPERIMENTS", {})  # Two jobs compute in processes of their own.
    data, results = tmp_path / "data", tmp_path / "results"
    words = ["--data", str(data), "--results", str(results), "--jobs", "2", "--seeds", "1"]
    experiments.experiment_command("experiments", words)
    printed = capsys.readouterr().out
    assert re.search(r"\d+ of \d+: zero-shot: .*; about \d+:\d\d:\d\d left", printed)
    for name in ("specialist", "few-shot", "zero-shot"):
        assert (results / f"{name}.csv").read_text().startswith("task,method,")
        assert f"\n{name}\n" in printed
    page = Page.read(results / "report.html")
    assert page.pictures == 3 and page.unclosed == []
    text = (results / "report.html").read_text()
    assert ">jax</th>" in text and text.count(">command</th>") == 1
    for record in work.read_all(results):  # No part takes longer than the whole.
        parts = [record.get(f"{name}_seconds", 0.0) for name in ("fit", "predict", "play")]
        assert min(parts) >= 0 and sum(parts) <= record["seconds"] + 0.1

    monkeypatch.setattr(runner, "compute", None)  # Nothing is left to compute.
    experiments.experiment_command("experiments", words)
    assert experiments.report_command(["--results", str(results)]) == 0


class Page(html.parser.HTMLParser):
    """Counts pictures that are whole PNG files, and elements that are left open."""

    EMPTY = ("meta", "link", "img")

    @classmethod
    def read(cls, path: pathlib.Path):
        page = cls()
        page.feed(path.read_text())
        return page

    def __init__(self):
        super().__init__()
        self.pictures, self.unclosed = 0, []

    def handle_starttag(self, tag, attrs):
        if tag not in self.EMPTY:
            self.unclosed.append(tag)
        source = dict(attrs).get("src", "")
        assert not source or source.startswith("data:")
        if source.startswith("data:image/png;base64,"):
            self.pictures += base64.b64decode(source.partition(",")[2])[:8] == b"\x89PNG\r\n\x1a\n"

    def handle_endtag(self, tag):
        assert self.unclosed.pop() == tag


def record(experiment, task, method, seed, returns, error=None, shots=-1):
    cell = Cell(experiment, task, method, shots, seed)
    found = {"returns": returns, "best_return": 100.0, "preset": "tiny", "settings": "x"}
    if error is not None:
        found |= {"observation_error": error, "reward_error": error}
    return cell._asdict() | found | {"seconds": 1.0}


def test_a_line_of_a_table_is_the_mean_over_seeds():
    records = [
        record("specialist", "a", "tdm", seed, [seed, seed + 2.0], [0.1 * seed, 0.3 * seed])
        for seed in (1, 2, 3)
    ]
    (row,) = summary.rows(records, "specialist")
    assert row.seeds == 3 and row.returns.point == pytest.approx(3.0)
    assert row.observation.point == pytest.approx(0.4)
    np.testing.assert_allclose(row.curve, [[0.1, 0.3], [0.2, 0.6], [0.3, 0.9]])
    # Of 27 equally likely draws of 3 of 3 seeds one has the least mean, 2, and one the largest.
    assert 2 <= row.returns.low <= 2.34 and 3.66 <= row.returns.high <= 4


def test_lines_stand_by_task_method_and_number_of_episodes():
    keys = [("b", "scratch", 3), ("a", "scratch", 10), ("a", "fine-tuned", 3), ("a", "scratch", 3)]
    records = [record("few-shot", task, name, 1, [0.0], shots=n) for task, name, n in keys]
    found = [(row.task, row.method, row.shots) for row in summary.rows(records, "few-shot")]
    assert found == [keys[2], keys[3], keys[1], keys[0]]


def test_a_single_seed_has_no_interval_and_decides_nothing():
    records = [
        record("zero-shot", "a", method, 1, [value], shots=0)
        for method, value in (("generalist", 50.0), ("random", 1.0))
    ]
    (row, _) = summary.rows(records, "zero-shot")
    assert row.returns.low is None and row.observation is None
    decided = claims.decide(records)
    assert decided[2].comparisons[0].lead.point == pytest.approx(0.49)
    assert decided[2].verdict == claims.UNDECIDED
    assert decided[0].verdict == decided[3].verdict == claims.MISSING


def test_comparisons_are_paired_by_seed():
    # Seeds differ by far more than methods: only the differences of equal seeds tell.
    records = [
        record("zero-shot", task, method, seed, [20.0 * seed + better], shots=0)
        for task in ("a", "b")
        for seed in (1, 2, 3)
        for method, better in (("generalist", 2.0 + 0.1 * seed), ("random", 0.0), ("policy", 5.0))
    ]
    decided = claims.decide(records)
    chance, policy = decided[2].comparisons[0], decided[3].comparisons[0]
    assert (chance.verdict, policy.verdict) == (claims.HOLDS, claims.FAILS)
    assert chance.lead.point == pytest.approx(0.022) and chance.tasks == 2 and chance.seeds == 3
    assert decided[3].verdict == claims.MISSING  # "policy-best" was not run.


def test_less_error_is_better():
    records = [
        record("specialist", "a", method, seed, [10.0], [error + 0.01 * seed])
        for seed in (1, 2)
        for method, error in (("tdm", 0.1), ("ensemble", 0.3), ("rssm", 0.05))
    ]
    verdicts = {(c.worse, c.measure): c.verdict for c in claims.decide(records)[0].comparisons}
    assert verdicts["ensemble", claims.ERROR] == claims.HOLDS
    assert verdicts["rssm", claims.REWARD] == claims.FAILS
    assert verdicts["rssm", claims.SCORE] == claims.UNDECIDED
    assert claims.decide(records)[0].verdict == claims.FAILS


def test_records_of_other_settings_are_refused(tmp_path):
    cell = Cell("specialist", "a", "tdm", -1, 1)
    first = Work(TINY, tmp_path, tmp_path)
    assert work.read_record(first, cell) is None
    work.write_record(first, cell, {"returns": [1.0]})
    assert work.read_record(first, cell)["returns"] == [1.0]
    # Other seeds are no other settings.
    more = dataclasses.replace(TINY, seeds=(7,))
    assert work.read_record(Work(more, tmp_path, tmp_path), cell) is not None
    other = dataclasses.replace(TINY, horizon=3)
    with pytest.raises(UserError, match="other settings"):
        work.read_record(Work(other, tmp_path, tmp_path), cell)
    path = cell.path(tmp_path)
    path.with_name("b.json").write_text(json.dumps({"settings": "else"}))
    with pytest.raises(UserError, match="different settings"):
        work.read_all(tmp_path)


def test_recorded_results_are_of_the_presets_as_they_are():
    recorded = work.read_all(RESULTS)
    small = preset("small")
    assert {record["settings"] for record in recorded} == {work.settings(small)}
    # An option that is younger than they are counts as soon as it is used.
    reward = dataclasses.replace(small.rssm.reward, likelihood="symlog")
    other = dataclasses.replace(small, rssm=dataclasses.replace(small.rssm, reward=reward))
    assert work.settings(other) != work.settings(small)


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch, capsys):
    cells = [Cell("specialist", "a", "tdm", -1, seed) for seed in (1, 2, 3)]
    at = Work(TINY, tmp_path, tmp_path)
    work.write_record(at, cells[1], {})
    ran, now = [], [50.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def compute(at, cell):
        ran.append(cell)
        now[0] += 90
        return 90.0

    monkeypatch.setattr(runner, "compute", compute)
    runner.run(at, cells, jobs=1)
    assert ran == [cells[0], cells[2]]
    assert capsys.readouterr().out.splitlines() == [
        "1 of 3 parts are done already",
        "2 of 3: specialist: a, tdm, seed 1: 90 s; about 0:01:30 left",
        "3 of 3: specialist: a, tdm, seed 3: 90 s; about 0:00:00 left",
    ]


def test_damaged_records_are_named(tmp_path):
    cell, at = Cell("few-shot", "a", "scratch", 3, 1), Work(TINY, tmp_path, tmp_path)
    work.write_record(at, cell, {})
    assert str(cell) == "few-shot: a, scratch, 3 episodes, seed 1"
    assert [path.name for path in tmp_path.rglob("*.*")] == ["a-scratch-3-1.json"]
    cell.path(tmp_path).write_text("{")
    with pytest.raises(UserError, match=r"a-scratch-3-1.json is damaged \(.*; remove it"):
        work.read_record(at, cell)


def test_too_few_episodes_are_refused(tmp_path, monkeypatch):
    """All but those held back are learned from, every one once."""
    episodes = [linear_episode(np.random.default_rng(seed)) for seed in range(4)]
    at = Work(dataclasses.replace(TINY, held_back=3), tmp_path, tmp_path)
    monkeypatch.setattr(work, "_read", lambda data: {"a": episodes, "b": episodes[:3]})
    split = work.load(at, "a")
    assert (len(split.training), len(split.held_back)) == (1, 3)
    assert {id(one) for part in split for one in part} == set(map(id, episodes))
    with pytest.raises(UserError, match="3 episodes of b; expected more than the 3 that are"):
        work.load(at, "b")
    with pytest.raises(UserError, match="no episodes of c; collect them first"):
        work.load(at, "c")


def test_few_episodes_are_among_more():
    episodes = [linear_episode(np.random.default_rng(seed)) for seed in range(5)]
    few, more = (work.choose(episodes, shots, 3) for shots in (1, 4))
    assert few[0] is more[0] and len({id(one) for one in more}) == 4
    with pytest.raises(UserError, match="6 episodes of the target"):
        work.choose(episodes, 6, 0)


def test_the_better_half_is_that_of_the_higher_returns():
    episodes = [{"reward": np.array([0.0, value])} for value in (3.0, 1.0, 5.0)]
    assert [one["reward"].sum() for one in pretrain.better_half(episodes)] == [5.0, 3.0]


def test_every_method_has_a_place_in_tables_and_a_colour():
    for stage in experiments.stages(TINY, [*experiments.EXPERIMENTS, "choices"], [1])[1:]:
        for cell in stage:
            if cell.experiment != "pretrain":
                assert cell.method in summary.METHODS and cell.method in plots.COLORS


def test_held_out_bodies_are_never_learned_from():
    for one in (preset("small"), preset("full"), TINY):
        stages = experiments.stages(one, experiments.EXPERIMENTS, [1])
        collected = {cell.task for cell in stages[0]}
        for family in one.families:
            assert not set(family.training) & set(family.targets)
            assert collected >= {*family.training, *family.targets}
        for task in collected:
            assert one.env(task).action_repeat >= 0
        enough = sum(one.policies.values()) - one.held_back
        assert max(one.shots) <= enough
    with pytest.raises(UserError, match="members and held out"):
        Family("dmc_cartpole_swingup", (1, 2), (2, 3))


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="unknown preset 'smal'; did you mean 'small'"):
        experiments.experiment_command("specialist", ["--preset", "smal"])
    with pytest.raises(UserError, match="--seeds is 'a'"):
        experiments.experiment_command("specialist", ["--seeds", "a"])
    with pytest.raises(UserError, match="no results in"):
        experiments.report_command(["--results", str(tmp_path)])


@pytest.mark.parametrize("size", PRESETS.values(), ids=lambda size: size.name)
def test_every_task_of_a_preset_can_be_collected(size):
    assert any(policy.startswith("simulator") for policy in size.policies)
    for task in (*size.tasks, *(family.base for family in size.families)):
        find_reward("_".join(task_names()[task.removeprefix("dmc_")]))
        assert size.env(task).action_repeat > 0, task
