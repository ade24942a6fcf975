"""Agents that come with the package: each loads by its name, and plays as well as it is said to."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

import common
import dreamer
import planet
from common.command import flags, presets, trained
from common.errors import UserError
from common.export import read_export
from common.replay.episodes import read_episodes
from common.run.evaluation import play, trained_policy
from common.run.loading import LoadedAgent
from common.run.program import find_program
from common.trained import FOLDER, INDEX, located, trained_agents
from dreamer.program import main

AGENTS = trained_agents()
MOST_BYTES = 1_500_000


def test_every_file_is_listed_and_small():
    assert {path.stem for path in FOLDER.glob("*.npz")} == AGENTS.keys()
    for name, one in AGENTS.items():
        assert (FOLDER / f"{name}.npz").stat().st_size <= MOST_BYTES
        frames, means = np.array(one.curve).T
        assert frames[-1] == one.frames and (np.diff(frames) > 0).all() and len(means) > 1
        agent, train, *words = shlex.split(one.command)
        program = find_program(one.agent)
        parsed = flags.parse_flags(words, program.default_config, ("configs",))
        config = presets.resolve(program, parsed.configs, parsed.values)
        assert (agent, train, config.task) == (one.agent, "train", one.task)
        assert config.run.frames == one.frames
        assert list(config.env.challenge.named()) == list(one.challenges)
        assert one.least <= one.mean and one.mean > 2 * one.random


@pytest.mark.parametrize("name", AGENTS)
def test_it_acts_by_its_name(name):
    one = AGENTS[name]
    load = {"dreamer": dreamer.load, "planet": planet.load}[one.agent]
    agent = load(f"zoo:{name}")
    seen = {key: np.zeros(spec.shape, spec.dtype) for key, spec in agent.observations.items()}
    action, carry = agent.act(seen)
    again, _ = agent.act(seen, carry)
    assert agent.config.task == one.task and np.isfinite(action).all() and np.isfinite(again).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_it_plays_as_well_as_it_is_said_to(name):
    one = AGENTS[name]
    agent = LoadedAgent(find_program(one.agent), f"zoo:{name}")
    results = play(agent.config.task, agent.config.env, 5, 7, trained_policy(agent, 7))
    spread = 3 * (one.deviation / np.sqrt(5) + 0.01 * abs(one.mean))
    assert abs(results.all.returns.mean() - one.mean) < spread


def test_an_agent_plays_and_records_by_the_command(capsys, tmp_path):
    name = min(AGENTS, key=lambda name: (FOLDER / f"{name}.npz").stat().st_size)
    program = {"dreamer": dreamer, "planet": planet}[AGENTS[name].agent].program
    assert program.main(["eval", "--logdir", f"zoo:{name}", "--episodes", "1"]) == 0
    played = float(capsys.readouterr().out.splitlines()[0].partition("returns: ")[2])
    assert played > 0.8 * AGENTS[name].mean
    words = ["--policy", f"zoo:{name}", "--episodes", "1", "--out", str(tmp_path / "data")]
    assert program.main(["record", *words]) == 0
    (episode,) = read_episodes(tmp_path / "data")
    assert episode["reward"].sum() > 0.8 * AGENTS[name].mean


def test_the_list_names_the_program_of_each(monkeypatch):
    (name, one), *_ = sorted(AGENTS.items())
    monkeypatch.setattr(trained, "trained_agents", lambda: {name: one._replace(agent="dreamer")})
    assert trained.listing().endswith(f'in Python dreamer.load("zoo:{name}")')
    both = {name: one._replace(agent="planet"), "cup_catch": one._replace(agent="dreamer")}
    monkeypatch.setattr(trained, "trained_agents", lambda: both)
    assert "play one: dreamer eval --logdir zoo:cup_catch" in trained.listing()
    assert trained.listing().endswith("; those of planet: planet eval, planet.load")


def test_a_world_model_has_the_same_name():
    name = next(name for name, one in AGENTS.items() if one.agent == "dreamer")
    model, params = common.load_world_model(f"zoo:{name}")
    held = read_export(located(f"zoo:{name}")).params["world_model"]
    assert model.observations and params.keys() == held.keys()
    assert all(leaf.dtype == np.float32 for part in held.values() for leaf in leaves(part))


def leaves(tree):
    """Arrays of nested mappings."""
    if not isinstance(tree, dict):
        return [tree]
    return [leaf for inner in tree.values() for leaf in leaves(inner)]


def test_the_command_lists_them(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [f"zoo:{name}" for name in AGENTS]


@pytest.mark.parametrize("command", ["eval", "export"])
def test_another_name_is_one_line(command, capsys):
    words = ["--onnx", "x.onnx"] if command == "export" else []
    assert main([command, "--logdir", "zoo:cartpole_swing", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and "lists no trained agent 'cartpole_swing'" in error
    with pytest.raises(UserError, match=r"did you mean '\w*cartpole_swingup'"):
        dreamer.load("zoo:cartpole_swing")


def test_the_index_is_plain_data():
    assert json.loads((FOLDER / INDEX).read_text()).keys() == AGENTS.keys()
