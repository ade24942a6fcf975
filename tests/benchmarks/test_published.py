"""The shipped references: the published tables again, digit by digit."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scores import published as reading
from benchmarks.scores.aggregate import aggregate, headline, scored
from benchmarks.scores.published import published, published_names
from benchmarks.suites import SUITES, suite
from common.errors import UserError
from common.published.tables import DATA, column, read_scores

ATARI = suite("atari")
PRINTED = "atari_published_aggregates.csv"
GAMES = "atari_published_games.csv"
# Table 1 of arXiv:2010.02193v4 once more, so that the file cannot change unseen.
TABLE_1 = """
DQN 0.65 2.84 0.12 0.12
C51 1.09 7.70 0.15 0.15
Rainbow 1.47 9.12 0.17 0.17
IQN 1.29 8.85 0.21 0.21
DreamerV2 2.15 11.33 0.44 0.28
DreamerV2-schedules 2.64 10.45 0.43 0.28
"""

SCORED = [name for name in SUITES if name != "rwrl"]
"""Benchmarks that others have published scores of."""


@pytest.mark.parametrize("line", TABLE_1.split("\n")[1:-1])
def test_aggregates_of_the_dreamer_v2_paper(line):
    name, *printed = line.split()
    values = aggregate(published(ATARI, [name])[0], ATARI, 0).values
    assert [f"{values[key].point:.2f}" for key in headline(ATARI)] == printed


def test_shipped_table_of_aggregates_is_that_of_the_paper():
    lines = (",".join(line.split()) for line in TABLE_1.strip().split("\n"))
    assert (DATA / PRINTED).read_text().split("\n")[1:-1] == list(lines)


@pytest.mark.parametrize("name", ["Rainbow", "IQN", "DreamerV2"])
def test_scores_of_every_game_of_the_dreamer_v2_paper(name):
    printed = column(read_scores(GAMES), name.lower())
    agent = published(ATARI, [name])[0]
    assert len(printed) == 55
    assert {game: round(agent.scores[game].mean()) for game in ATARI.tasks} == printed


def test_references_of_every_game_of_the_dreamer_v2_paper():
    rows = read_scores(GAMES)
    for name, scale in (
        ("random", ATARI.low), ("human_gamer", ATARI.gamer), ("human_record", ATARI.record)
    ):  # fmt: skip
        assert {game: round(score) for game, score in scale.items()} == column(rows, name)


def test_usual_agents_of_atari():
    agents = published(ATARI)
    assert [agent.name for agent in agents] == ["DQN", "C51", "Rainbow", "IQN", "DreamerV2"]
    for agent in agents:
        assert agent.published and scored(agent, ATARI) == list(ATARI.tasks)
        assert set(agent.curves) == set(agent.scores) == set(agent.seeds)
        assert agent.protocol.sticky == 0.25 and agent.protocol.frames == 200_000_000
    assert {agent.seeds["Pong"] for agent in agents[:4]} == {5}
    assert [agent.per_seed("Pong") for agent in agents] == [False] * 4 + [True]
    assert [agent.protocol.returns for agent in agents] == ["training"] * 4 + ["evaluation"]


def test_runs_of_dreamer_v2():
    agent = published(ATARI, ["DreamerV2"])[0]
    rows = read_scores("atari_scores.csv")
    stds = column(rows, "dreamerv2_seed_std")
    for game, values in agent.scores.items():
        assert len(values) == agent.seeds[game] == 8
        assert np.std(values, ddof=1) == pytest.approx(stds[game], rel=1e-3, abs=1e-3)
        assert values.mean() == pytest.approx(float(rows[game]["dreamerv2"]), rel=1e-12)
    assert agent.notes[0].startswith("20 of 440 runs end before 199M frames")
    assert "Breakout 4, Gopher 1, MontezumaRevenge 6" in agent.notes[0]
    curve = agent.curves["Phoenix"]
    assert curve.frames[[0, -1]].tolist() == [1_000_000, 200_000_000]
    short = np.isnan(curve.returns[:, 198])
    assert short.sum() == 4
    for row, value in zip(curve.returns, agent.scores["Phoenix"], strict=True):
        last = row[:199][~np.isnan(row[:199])][-1]
        assert value == pytest.approx(last, rel=2e-5)  # Carried forward, never averaged.


def test_eleven_seeds_are_available_by_name():
    agent = published(ATARI, ["DreamerV2-11seeds"])[0]
    means = column(read_scores("atari_scores.csv"), "dreamerv2_11seeds")
    assert set(agent.seeds.values()) == {11}
    for game, mean in means.items():
        assert agent.scores[game].mean() == pytest.approx(mean, rel=1e-4)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="unknown agent 'Rainbows'; did you mean 'Rainbow'"):
        published(ATARI, ["Rainbows"])


@pytest.mark.parametrize("name", SCORED)
def test_every_reference_is_one_column_of_its_table(name):
    benchmark = suite(name)
    agents = published(benchmark, published_names(benchmark))
    rows = read_scores(f"{name.removesuffix('_proprio')}_scores.csv")
    words = ("game", "task", "rom", "dm_domain", "dm_task")
    keys = [key for key in next(iter(rows.values())) if key not in words]
    columns = {tuple(column(rows, key).items()) for key in keys}
    assert len({agent.name for agent in agents}) == len(agents) >= 8
    for agent in agents:
        means = {task: pytest.approx(x.mean(), abs=1e-9) for task, x in agent.scores.items()}
        assert sum(means == dict(values) for values in columns) == 1, agent.name
        assert agent.protocol.inputs == benchmark.protocol.inputs
        for task, values in agent.scores.items():
            assert len(values) in (1, agent.seeds[task])


@pytest.mark.parametrize("name", SCORED)
def test_seeds_average_to_the_table_but_for_its_rounding(name, monkeypatch):
    monkeypatch.setattr(reading, "_moved_to", lambda means, runs: dict(runs))
    benchmark = suite(name)
    rough = published(benchmark, published_names(benchmark))
    monkeypatch.undo()
    for agent, exact in zip(rough, published(benchmark, published_names(benchmark)), strict=True):
        for task, values in agent.scores.items():
            assert values.mean() == pytest.approx(exact.scores[task].mean(), rel=5e-5, abs=0.05)


def test_seeds_behind_the_100k_table():
    benchmark = suite("atari100k")
    twm, dreamer = published(benchmark, ["TWM", "DreamerV3-2024"])
    assert twm.scores["Alien"][:3] == pytest.approx([840, 895, 528.5], rel=1e-5)
    assert len(dreamer.scores["UpNDown"]) == dreamer.seeds["UpNDown"] == 1
    notes = aggregate(dreamer, benchmark).notes
    assert notes[0] == "in UpNDown there is one seed: no intervals"
    assert "UpNDown 1" in notes[1]


def test_agents_without_all_tasks_have_them_listed():
    benchmark = suite("dmc")
    tdmpc2 = published(benchmark, ["TD-MPC2"])[0]
    missing = aggregate(tdmpc2, benchmark, 0).missing
    assert len(missing) == 8 and "cartpole_balance" in missing
