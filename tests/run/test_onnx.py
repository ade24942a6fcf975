"""Exported graphs, run by the runner of the docs, act as the agent does in JAX."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.speed import harness
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.workloads import PIECES, STEPS_OF_A_GRAPH
from common.command import presets
from common.config import update
from common.distributions import action_noise_size, uniform_noise
from common.errors import UserError
from common.export import EXPORT, export
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.replay.config import ReplayConfig
from common.rows import observation_entries
from common.run.loading import LoadedAgent
from common.run.onnx import decode, make_step, write_onnx
from common.spaces import action_spec, observation_specs
from dreamer.config import ActorConfig, Config
from dreamer.program import load_program as load_dreamer
from planet.config import Config as PlannedConfig
from planet.program import load_program as load_planet
from planet.tdmpc2.config import TDMPC2Config
from tests.test_documents import fenced
from tests.tiny import TINY, random_params

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
RUNNER = fenced(PAGE.read_text(), "python")[0]
STEPS = 200
SMALL = Config(
    world_model=dataclasses.replace(TINY, predict_discount=False),
    actor=ActorConfig(layers=1, units=8),
    critic=HeadConfig(layers=1, units=8),
)
PLANNER = PlannerConfig(
    method="mppi", horizon=3, iterations=2, candidates=12, policy_candidates=4, elites=6,
    value=True,
)  # fmt: skip
spaces = gymnasium.spaces
NUMBERS = spaces.Dict(
    position=spaces.Box(-5, 5, (3,)), gear=spaces.Discrete(3, start=1), touch=spaces.Box(0, 1, ())
)
PICTURE = spaces.Box(0, 255, (32, 32, 3), np.uint8)
BOX = spaces.Box(np.array([-2.0, 0.5], np.float32), np.array([4.0, 0.75], np.float32))
MANY = spaces.Dict(
    arm=spaces.Box(-3, 7, (2, 2)),
    fingers=spaces.MultiDiscrete([2, 4], start=[0, 3]),
    steps=spaces.Box(-3, 7, (2,), np.int64),
)


def shrunk(names):
    """Presets with layers of a few units."""
    program = load_dreamer()
    sizes = {
        "rssm.deter": 16, "rssm.stoch": 4, "rssm.classes": 4, "rssm.hidden": 8, "encoder.units": 8,
        "encoder.depth": 2, "decoder.units": 8, "decoder.depth": 2,
    }  # fmt: skip
    config = presets.resolve(program, names, {})
    known = {f"world_model.{name}": size for name, size in sizes.items()}
    known |= {"actor.units": 8, "critic.units": 8}
    return update(config, {}, known)


CASES = {
    "V1": (load_dreamer, lambda: shrunk(["dreamer_v1"]), NUMBERS, BOX),
    "V2": (load_dreamer, lambda: SMALL, NUMBERS, BOX),
    "V2 in Atari": (
        load_dreamer, lambda: dataclasses.replace(
            SMALL, actor=dataclasses.replace(SMALL.actor, evaluate="sample")
        ), PICTURE, spaces.Discrete(4, start=2),
    ),
    "V3": (load_dreamer, lambda: shrunk(["dmc_vision_v3"]), PICTURE, BOX),
    "V3 from state": (load_dreamer, lambda: shrunk(["dmc_proprio_v3"]), NUMBERS, BOX),
    "bfloat16": (
        load_dreamer, lambda: dataclasses.replace(
            SMALL, world_model=dataclasses.replace(SMALL.world_model, precision="bfloat16")
        ), NUMBERS, BOX,
    ),
    "several spaces": (load_dreamer, lambda: SMALL, NUMBERS, MANY),
    "small actor": (
        load_dreamer, lambda: dataclasses.replace(
            SMALL, distill=dataclasses.replace(SMALL.distill, kind="gru")
        ), NUMBERS, BOX,
    ),
    "TD-MPC2": (
        load_planet, lambda: PlannedConfig(
            model="tdmpc2", planner=PLANNER, replay=ReplayConfig(batch=4, length=4),
            tdmpc2=TDMPC2Config(
                encoder_units=8, units=16, latent=16, num_q=2, bins=21, discount=0.9
            ),
        ), NUMBERS, BOX,
    ),
}  # fmt: skip
QUICK = ("V2", "V3", "TD-MPC2", "several spaces", "small actor")
"""What every run of the suite converts."""


def exported(folder, load, config, observations, actions, drawn=False):
    """Writes an export with random weights, or as training begins with; returns its file."""
    program, specs = load(), (observation_specs(observations), action_spec(actions))
    agent = program.make_agent(config, *specs)
    if drawn:
        params = agent.params(jax.jit(agent.init)(jax.random.key(0)))
    else:  # Larger than usual, so that they answer to what is seen.
        params = random_params(lambda key: agent.params(agent.init(key)))
        params = jax.tree.map(lambda x: 3 * x, params)
    export(folder / EXPORT, program.name, config, *specs, params)
    return folder / EXPORT


def runner():
    """The class of the page."""
    names = {}
    exec(compile(RUNNER, str(PAGE), "exec"), names)
    return names["OnnxPolicy"]


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in CASES]
)
def test_the_runner_does_what_jax_does(name, tmp_path):
    pytest.importorskip("jax2onnx")
    load, make_config, observations, actions = CASES[name]
    drawn = name == "V1"  # Whose tanh would have nothing left to say.
    path = exported(tmp_path, load, make_config(), observations, actions, drawn)
    said = write_onnx(load(), path, tmp_path / "policy.onnx", 1, "sample")
    assert "from JAX over 50 steps" in said and sorted(x.name for x in tmp_path.iterdir()) == [
        EXPORT, "policy.json", "policy.onnx",
    ]  # fmt: skip
    policy = runner()(tmp_path / "policy.onnx", seed=3)
    agent = LoadedAgent(load(), path, precise=True)
    reactive = agent.act_function.agent.reactive
    rng, carry, act = np.random.default_rng(3), reactive.initial_carry(1), jax.jit(reactive.act)
    observations.seed(0)
    taken = []
    for index in range(STEPS):
        observation, first = observations.sample(), index in (0, 1, 60, 77)
        rows = observation_entries(observation, agent.observations)
        rows = {key: value[None] for key, value in rows.items()} | {"is_first": np.array([first])}
        noise = {}
        for key, spec in reactive.noise.items():
            draw = rng.random if spec.kind == "uniform" else rng.standard_normal
            noise[key] = draw((1, *spec.shape), np.float32)
        wanted, carry = act(agent.params, noise, carry, rows)
        found = policy.act(observation, first)
        for ours, theirs in zip(parts(found), parts(agent.actions.decode(wanted[0])), strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert actions.contains(found) or name == "several spaces"
        taken.append(np.asarray(wanted))
    assert np.ptp(taken, axis=0).max() > 0.01  # The action depends on what is seen.


def parts(action):
    """An action's arrays, in the order of their names."""
    values = [action[key] for key in sorted(action)] if isinstance(action, dict) else [action]
    return [np.asarray(value) for value in values]


@pytest.mark.parametrize("sampled", [False, True])
def test_the_step_is_what_evaluations_do(sampled):
    actor = dataclasses.replace(SMALL.actor, evaluate="sample" if sampled else "mode")
    specs = observation_specs(NUMBERS), action_spec(BOX)
    agent = load_dreamer().make_agent(dataclasses.replace(SMALL, actor=actor), *specs)
    params = random_params(lambda key: agent.params(agent.init(key)))
    rows = {key: jnp.ones((2, *spec.shape)) for key, spec in specs[0].items()}
    rows["is_first"] = jnp.array([True, False])
    key = jax.random.key(7)
    wanted, carry = agent.act(params, key, agent.initial_carry(2), rows, "eval")
    keys = jax.random.split(key, 3)
    noise = {"latent": uniform_noise(keys[0], (2, *agent.reactive.noise["latent"].shape))}
    if sampled:
        noise["action"] = uniform_noise(keys[1], (2, action_noise_size(specs[1])))
        assert agent.reactive.noise["action"].shape == noise["action"].shape[1:]
    found, next_carry = agent.reactive.act(params, noise, agent.reactive.initial_carry(2), rows)
    np.testing.assert_array_equal(found, wanted)
    jax.tree.map(np.testing.assert_array_equal, next_carry, carry)


def test_without_noise_the_likeliest_latent_is_taken():
    specs = observation_specs(NUMBERS), action_spec(BOX)
    agent = load_dreamer().make_agent(SMALL, *specs)
    params = random_params(lambda key: agent.params(agent.init(key)))
    rows = {key: jnp.ones((1, *spec.shape)) for key, spec in specs[0].items()}
    rows["is_first"] = jnp.ones(1, bool)
    carry = agent.reactive.initial_carry(1)
    _, drawn = agent.reactive.act(params, {"latent": jnp.full((1, 3), 0.999)}, carry, rows)
    _, likeliest = agent.reactive.act(params, {}, carry, rows)
    assert not np.array_equal(drawn.state.stoch, likeliest.state.stoch)
    without = make_step(agent.reactive._replace(noise={}), params, *specs, 1)
    assert not [one for one in without.inputs if one.name.startswith("noise")]


@pytest.mark.parametrize("space", [BOX, MANY, spaces.Discrete(5, start=-2)], ids=str)
def test_actions_are_decoded_as_spaces_decode_them(space):
    spec = action_spec(space)
    vectors = np.random.default_rng(0).normal(scale=0.8, size=(64, spec.size)).astype(np.float32)
    found = decode(spec, jnp.asarray(vectors))
    for index, vector in enumerate(vectors):
        wanted = spec.decode(vector)
        wanted = wanted if isinstance(wanted, dict) else {"": wanted}
        for name, value in wanted.items():
            ours = np.asarray(found[f"action.{name}".rstrip(".")][index])
            assert ours.shape == np.shape(value)
            np.testing.assert_allclose(ours, value, atol=1e-6)


def test_the_runner_needs_no_jax_and_serves_several(tmp_path):
    pytest.importorskip("jax2onnx")
    path = exported(tmp_path, load_dreamer, SMALL, NUMBERS, BOX)
    write_onnx(load_dreamer(), path, tmp_path / "policy.onnx", 3, "mode")
    about = json.loads((tmp_path / "policy.json").read_text())
    assert about["batch"] == 3 and about["noise"] == [] and about["latents"] == "mode"
    assert math.isclose(about["actions"][0]["high"][1], 0.75)
    script = (
        f"import sys\nsys.modules['jax'] = None\n{RUNNER}\n"
        "policy = OnnxPolicy('policy.onnx')\n"
        "seen = {'position': np.ones((3, 3)), 'gear': np.array([1, 2, 3]), 'touch': np.ones(3)}\n"
        "first = policy.act(seen, True)\nsecond = policy.act(seen, [False, True, False])\n"
        "same = [bool((first[i] == second[i]).all()) for i in (1, 0)]\nprint(first.shape, *same)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split(") ") == ["(3, 2", "True False\n"]  # Only an episode's begin forgets.


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one, marks=() if one in ("V2", "TD-MPC2") else pytest.mark.slow)
        for one in CASES
    ],
)
def test_a_graph_for_any_number_of_environments(name, tmp_path):
    pytest.importorskip("jax2onnx")
    load, make_config, observations, actions = CASES[name]
    path = exported(tmp_path, load, make_config(), observations, actions, name == "V1")
    if name == "V3":  # The converter cannot pad pictures whose number is a symbol.
        with pytest.raises(UserError, match="any number of environments .*; give a number, such"):
            write_onnx(load(), path, tmp_path / "policy.onnx", "dynamic", "mode")
        return
    write_onnx(load(), path, tmp_path / "policy.onnx", "dynamic", "mode")  # Compares one and three.
    one, five = (runner()(tmp_path / "policy.onnx", batch=batch) for batch in (1, 5))
    assert one.about["batch"] == "dynamic"
    assert {x.shape[0] for x in five.session.get_inputs()} == {"N"}
    assert {x.shape[0] for x in five.session.get_outputs()} == {"N"}
    if five.about["noise"]:  # They draw different numbers.
        return
    observations.seed(0)
    for first in (True, False):
        seen = observations.sample()
        several = jax.tree.map(lambda value: np.stack([value] * 5), seen)
        single, all_of_them = parts(one.act(seen, first)), parts(five.act(several, first))
        for ours, theirs in zip(all_of_them, single, strict=True):
            np.testing.assert_allclose(ours, np.stack([theirs] * 5), atol=1e-5)


def test_a_step_is_timed(monkeypatch):
    pytest.importorskip("jax2onnx")
    monkeypatch.setattr(harness, "MATMUL_SIZE", 64)
    shape = dataclasses.replace(SHAPES["proprio"], presets=("dmc_proprio", "debug"))
    found = PIECES["onnx"](shape, 2)
    assert len(found.seconds) == 2 * STEPS_OF_A_GRAPH and 0 < found.minimum <= found.median
    agent = shape.agent()
    weights = agent.params(agent.init(jax.random.key(0))).values()
    # Each weight is used once, but for those of decoders, critics and the prior, not at all.
    assert 0 < found.flops < 2 * sum(x.size for part in weights for x in jax.tree.leaves(part))


def test_what_cannot_be_exported_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("jax2onnx")
    planned = PlannedConfig(world_model=SMALL.world_model)
    (tmp_path / "planet").mkdir()
    path = exported(tmp_path / "planet", load_planet, planned, NUMBERS, BOX)
    with pytest.raises(UserError, match="plans every action"):
        write_onnx(load_planet(), path, tmp_path / "policy.onnx", 1, "sample")
    with pytest.raises(UserError, match=r"must end in \.onnx"):
        write_onnx(load_planet(), path, tmp_path / "policy.pb", 1, "sample")
    complex_numbers = dataclasses.replace(
        SMALL, world_model=dataclasses.replace(SMALL.world_model, dynamics="s5")
    )
    path = exported(tmp_path, load_dreamer, complex_numbers, NUMBERS, BOX)
    with pytest.raises(UserError, match="ONNX can't say what this agent computes"):
        write_onnx(load_dreamer(), path, tmp_path / "policy.onnx", 1, "sample")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match=r"pip install 'world-model-agents\[onnx\]'"):
        write_onnx(load_dreamer(), path, tmp_path / "policy.onnx", 1, "sample")
    assert not list(tmp_path.glob("*policy*"))
