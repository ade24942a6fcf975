"""The recorded figures of token-level dynamics: which there are, and what tables say of them."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from benchmarks.tdm import claims, experiments, summary, tables, work
from benchmarks.tdm.presets import PRESETS, SMALL
from benchmarks.tdm.work import Cell

RESULTS = pathlib.Path(experiments.__file__).resolve().parent.parent / "results" / "tdm"


@pytest.fixture(scope="module", name="records")
def _records():
    return work.read_all(RESULTS)


def test_every_cell_of_the_small_preset_is_recorded_and_no_other(records):
    names = [*experiments.EXPERIMENTS, "choices"]
    wanted = [one for stage in experiments.stages(SMALL, names, SMALL.seeds) for one in stage]
    assert len(set(wanted)) == len(wanted)
    assert {Cell(*(one[key] for key in Cell._fields)) for one in records} == set(wanted)
    assert {one.path(RESULTS) for one in wanted} == set(RESULTS.glob("cells/*/*.json"))


@pytest.mark.parametrize("name", [*experiments.EXPERIMENTS, "choices"])
def test_recorded_tables_follow_from_recorded_cells(name, records, tmp_path):
    rows = summary.rows(records, name)
    assert tables.text(rows) + "\n" == (RESULTS / f"{name}.txt").read_text()
    tables.write(tmp_path / "rows.csv", rows)
    assert (tmp_path / "rows.csv").read_text() == (RESULTS / f"{name}.csv").read_text()


VERDICTS = {
    "A TDM of one environment": ("does not hold", 3 * ["does not hold"] + 3 * ["holds"]),
    "A generalist TDM, fine-tuned": ("holds", 6 * ["holds"]),
    "A generalist TDM plans": ("holds", ["holds"]),
    "Planning in generalised dynamics": ("undecided", ["holds", "undecided"]),
}
LINES = (
    "tdm ahead of ensemble, error of observations: -0.087 (-0.095 to -0.079) over 5 tasks; does",
    "tdm ahead of rssm, error of observations: 0.162 (0.146 to 0.176) over 5 tasks; holds",
    "tdm ahead of rssm, return: 0.025 (0.001 to 0.050) over 5 tasks; holds",
    "fine-tuned ahead of scratch, return, 1 episode: 0.199 (0.117 to 0.252) over 2 tasks; holds",
    "fine-tuned ahead of scratch, error of observations, 3 episodes: 0.568 (",
    "generalist ahead of policy-best, return: -0.004 (-0.041 to 0.034) over 2 tasks; undecided",
)
"""As benchmarks/results/README.md tells them."""


def test_claims_are_decided_as_the_results_say(records):
    decided = claims.decide(records)
    for claim, (start, (verdict, each)) in zip(decided, VERDICTS.items(), strict=True):
        assert claim.words.startswith(start) and claim.verdict == verdict
        assert [one.verdict for one in claim.comparisons] == each
        assert {one.seeds for one in claim.comparisons} == {3}
    text = tables.claims_text(decided)
    for line in LINES:
        assert f"\n  {line}" in text


def test_what_was_not_run_is_said_to_be_missing():
    decided = claims.decide([])
    assert {one.verdict for one in decided} == {claims.MISSING}
    assert "fine-tuned ahead of scratch, return: no figures; not run" in tables.claims_text(decided)
    (few_shot,) = [one for one in decided if one.experiment == "few-shot"]
    assert [(one.tasks, one.seeds) for one in few_shot.comparisons] == [(0, 0)] * 2


def test_an_interval_that_touches_zero_decides_nothing():
    for low, high, verdict in [(0.0, 1.0, "undecided"), (-1.0, 0.0, "undecided"),
                               (0.1, 1.0, "holds"), (-1.0, -0.1, "does not hold")]:  # fmt: skip
        lead = claims.Interval((low + high) / 2, low, high)
        assert claims.Comparison("return", "a", "b", lead, 1, 2).verdict == verdict


def test_young_options_are_those_that_presets_have():
    def names(values):
        for name, value in values.items():
            yield name
            yield from names(value) if isinstance(value, dict) else ()

    known = {name for one in PRESETS.values() for name in names(dataclasses.asdict(one))}
    assert work.LATER.keys() <= known
