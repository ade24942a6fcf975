"""Specifications in the suite's own words."""

from __future__ import annotations

import pytest

from common.command.presets import load_presets
from common.config import update
from common.envs.challenges import ChallengeConfig
from common.envs.challenges.specs import from_specs
from common.envs.registry import action_repeat
from common.errors import UserError
from dreamer.config import Config
from planet.config import Config as PlanetConfig


def test_the_documented_names_and_those_of_the_code_mean_the_same():
    """The suite's text says action_prob where its code reads actions_prob, and does nothing."""
    documented, coded = (
        from_specs(
            delay_spec={"enable": True, "actions": 3, "rewards": 10},
            noise_spec={
                "gaussian": {"enable": True, "observations": 0.1},
                "dropped": {"enable": True, f"{name}_prob": 0.2, f"{name}_steps": 4},
                "repetition": {"enable": True, f"{name}_prob": 1.0, f"{name}_steps": 2},
                "stuck": {"enable": False, "observations_prob": 0.5},
            },
        )
        for name in ("action", "actions")
    )
    assert (
        documented
        == coded
        == update(
            ChallengeConfig(),
            {
                "delay": {"actions": 3, "rewards": 10},
                "gaussian.observations": 0.1,
                "dropped": {"actions_prob": 0.2, "actions_steps": 4},
                "repetition": {"actions_prob": 1.0, "actions_steps": 2},
            },
        )
    )


def test_none_is_no_challenge_and_a_single_constraint_needs_no_list():
    assert from_specs(delay_spec=None, noise_spec=None) == ChallengeConfig()
    found = from_specs(safety_spec={"enable": True, "constraints": "slider_pos_constraint"})
    assert found.safety.constraints == ("slider_pos",)


def test_what_changes_nothing_is_warned_of():
    quiet = [
        {}, {"perturb": {"param": "auto", "scheduler": "uniform"}}, {"delay.actions": 3},
        {"perturb": {"param": "pole_mass", "start": 0.2}}, {"safety.constraints": ("all",)},
    ]  # fmt: skip
    assert not any(update(ChallengeConfig(), one).remarks() for one in quiet)
    for options, words in [
        ({"perturb.scheduler": "uniform"}, "changes no body: name a quantity in perturb.param"),
        ({"perturb.param": "pole_mass"}, "pole_mass stays what it is: choose a perturb.scheduler"),
        ({"safety.coeff": 0.3}, "no constraint on: name some in safety.constraints"),
    ]:
        (line,) = update(ChallengeConfig(), options).remarks()
        assert words in line and line.startswith("env.challenge.")
    for config in (Config(), PlanetConfig()):
        found = update(config, {"env.challenge.safety.coeff": 0.3}).remarks("cpu")
        assert found == ["env.challenge." + line.partition(".challenge.")[2]]


def test_challenges_have_names():
    found = update(ChallengeConfig(), {"delay.actions": 3, "safety.constraints": ("all",)})
    assert found.named() == ("delay.actions 3", "safety.constraints ('all',)")
    assert ChallengeConfig().named() == ()


def test_bodies_constraints_and_objectives():
    found = from_specs(
        perturb_spec={"enable": True, "param": "pole_mass", "scheduler": "drift_pos", "std": 0.2},
        dimensionality_spec={"enable": True, "num_random_state_observations": 5},
        safety_spec={
            "enable": True, "safety_coeff": 0.3, "constraints": ["slider_pos_constraint"],
        },
        multiobj_spec={
            "enable": True, "objective": "safety", "reward": True, "coeff": 0.5, "observed": True,
        },
    )  # fmt: skip
    assert found == update(
        ChallengeConfig(),
        {
            "perturb": {"param": "pole_mass", "scheduler": "drift_pos", "std": 0.2},
            "dimensions": 5,
            "safety": {"constraints": ("slider_pos",), "coeff": 0.3},
            "multiobj": {"coeff": 0.5, "observed": True},
        },
    )
    seen = {"enable": True, "coeff": 0.5, "reward": False}
    usual = from_specs(safety_spec={"enable": True}, multiobj_spec=seen)
    assert usual.multiobj.coeff == 0 and usual.safety.constraints == ("all",)


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ({"combined_challenge": {"enable": True}}, "unknown specification 'combined_challenge'"),
        (
            {"delay_spec": {"enable": True, "action": 1}},
            "delay_spec.action; did you mean 'actions'",
        ),
        (
            {"safety_spec": {"enable": True, "limits": {}}},
            "limits has no option here; .*safety_coeff",
        ),
        ({"delay_spec": 3}, 'delay_spec is 3; expected a dict such as {"enable": True}'),
        ({"delay_spec": {"enable": True, "actions": -1}}, "delay.actions is -1"),
        ({"multiobj_spec": {"enable": True, "objective": "speed"}}, "can be 'safety' only"),
    ],
)
def test_what_is_unknown_is_one_line(specs, words):
    with pytest.raises(UserError, match=words):
        from_specs(**specs)


@pytest.mark.parametrize(
    ("name", "delays", "noise", "fault", "held", "dimensions"),
    [
        ("easy", (3, 3, 10), 0.1, (0.01, 1), 1, 10),
        ("medium", (6, 6, 20), 0.3, (0.05, 5), 2, 20),
        ("hard", (9, 9, 40), 1.0, (0.1, 10), 3, 50),
    ],
)
def test_the_combined_challenges_are_the_published_ones(
    name, delays, noise, fault, held, dimensions
):
    presets = load_presets(["dmc_proprio", f"rwrl_{name}"], "dreamer")
    found = update(Config(), presets).env.challenge
    delay = found.delay
    assert (delay.actions, delay.observations, delay.rewards) == delays
    assert (found.gaussian.actions, found.gaussian.observations) == (noise, noise)
    for one in (found.dropped, found.stuck):
        assert (one.observations_prob, one.observations_steps, one.actions_prob) == (*fault, 0)
    repetition = found.repetition  # Performed once, twice, three times by the suite's code.
    assert (1 if not repetition.actions_prob else 1 + repetition.actions_steps) == held
    assert found.dimensions == dimensions
    assert (found.perturb.param, found.perturb.scheduler, found.perturb.strength) == (
        "auto", "uniform", name,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "repeat"), [("dmc_proprio", 1), ("dmc_proprio_v3", 1), ("dmc_state_cpu", 2)]
)
def test_the_suites_tasks_have_no_action_repeat_but_for_one_core(preset, repeat):
    task = "rwrl_walker_walk"
    found = update(Config(), load_presets([preset, "rwrl_easy"], "dreamer", task), {"task": task})
    assert action_repeat(task, found.env.action_repeat) == repeat
