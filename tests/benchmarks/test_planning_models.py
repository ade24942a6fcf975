"""Planners in models of each kind: every cell once, on one page."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks import planning_models
from benchmarks.__main__ import main
from common.envs import EnvConfig, make
from common.errors import UserError
from common.export import EXPORT, export
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.replay.config import ReplayConfig
from dreamer.agent import make_agent as make_dreamer
from dreamer.config import ActorConfig
from dreamer.config import Config as DreamerConfig
from planet.agent import make_agent as make_planet
from planet.config import Config as PlanetConfig
from tests.planet.tdmpc2.test_agent import TINY as TDMPC2
from tests.tiny import TINY, random_params

TASK, ENV = "gym_Pendulum-v1", EnvConfig(time_limit=6)
HEAD = HeadConfig(layers=1, units=8)
AGENTS = {
    "dreamer": (
        make_dreamer,
        DreamerConfig(TASK, env=ENV, world_model=TINY, actor=ActorConfig(1, 8), critic=HEAD),
    ),
    "planet": (make_planet, PlanetConfig(TASK, env=ENV, world_model=TINY)),
    "tdmpc2": (
        make_planet,
        PlanetConfig(TASK, env=ENV, model="tdmpc2", tdmpc2=TDMPC2, replay=ReplayConfig(length=4)),
    ),
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Untrained agents of one task, and planners that try little."""
    planner = PlannerConfig(horizon=2, iterations=2, candidates=6, top=2, elites=2)
    monkeypatch.setattr(planning_models, "PLANNER", planner)
    monkeypatch.setattr(planning_models, "TIMED", 2)
    envs = make(TASK, ENV, 0)
    specs = envs.observation_specs, envs.action_spec
    envs.close()
    words = []
    for name, (make_agent, config) in AGENTS.items():
        folder = tmp_path / name
        folder.mkdir()
        agent = make_agent(config, *specs)
        params = random_params(lambda key, agent=agent: agent.params(agent.init(key)))
        export(
            folder / EXPORT, "dreamer" if name == "dreamer" else "planet", config, *specs, params
        )
        words.append(f"{name}={folder}")
    return words


@pytest.mark.slow
def test_every_planner_in_every_model_once(runs, tmp_path, capsys):
    results = tmp_path / "results"
    words = ["planning", "models", *runs, "--episodes", "1", "--results", str(results)]
    assert main(words) == 0
    lines = (results / planning_models.RECORD).read_text().splitlines()
    cells = {(one["model"], one["planner"]) for one in map(json.loads, lines)}
    guided = {f"{method}{end}" for method in planning_models.METHODS
              for end in ("", ", value", ", value, proposals")}  # fmt: skip
    want = {("dreamer", name) for name in guided | {planning_models.ALONE}}
    want |= {("tdmpc2", name) for name in guided}
    want |= {("planet", name) for name in planning_models.METHODS}
    assert cells == want and len(lines) == len(want)
    assert (results / planning_models.PICTURE).stat().st_size > 10_000
    assert capsys.readouterr().out.count("| mppi, value, proposals |") == 2
    before = (results / planning_models.RECORD).read_text()
    assert main(words) == 0
    assert (results / planning_models.RECORD).read_text() == before


def test_steps_are_counted():
    """Six rounds of 200 and 24 sequences of 5 steps, and the policy's own 24 once before."""
    planner = PlannerConfig(
        method="mppi", horizon=5, iterations=6, candidates=200, value=True, policy_candidates=24
    )
    assert planning_models.imagined_steps(planner) == 6 * 224 * 5 + 24 * 5
    shooting = dataclasses.replace(planner, method="shooting", policy_candidates=0)
    assert planning_models.imagined_steps(shooting) == 1000


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "expected NAME=FOLDER of every run"),
        (["runs/one"], "got 'runs/one'"),
        (["one=runs/none"], "there is no trained agent at runs/none"),
        (["--table", "--results", "nowhere"], "nothing is recorded in nowhere/models.jsonl"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert main(["planning", "models", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "run", "words"),
    [
        ("gym_CartPole-v1", "a", "is about gym_CartPole-v1, and these runs are of gym_Pendulum-v1"),
        (TASK, "b", "has the name net for the run b; choose another name, or another --results"),
    ],
)
def test_a_record_of_another_task_or_run_is_not_taken_for_this_one(tmp_path, task, run, words):
    line = {"model": "net", "run": run, "planner": "cem", "task": task}
    (tmp_path / planning_models.RECORD).write_text(json.dumps(line) + "\n")
    cell = planning_models.Cell("net", "a", "cem", TASK, ENV, lambda envs: None, 0)
    with pytest.raises(UserError, match=words):
        planning_models._recorded([cell], tmp_path)
    others = cell._replace(run="b")
    if task == TASK:
        assert planning_models._recorded([others], tmp_path) == {("net", "cem")}
