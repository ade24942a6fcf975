"""The choice among trained agents: what is compared and played, what a killed command keeps."""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.page.figures import new_figure
from benchmarks.selection import command, imagined, logged, summary
from benchmarks.selection.candidates import load_candidates
from benchmarks.selection.record import EPISODES
from common.agent import SMALL_ACTOR
from common.envs import EnvConfig, make
from common.envs.challenges import ChallengeConfig
from common.envs.challenges.config import DelayConfig
from common.export import EXPORT, export
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.replay import read_episodes, write_episodes
from common.replay.config import ReplayConfig
from common.run.driver import RandomPolicy
from dreamer.agent import make_agent as make_dreamer
from dreamer.config import ActorConfig
from dreamer.config import Config as DreamerConfig
from planet.agent import make_agent as make_planet
from planet.config import Config as PlanetConfig
from planet.model import Memory as ModelMemory
from planet.model import PlannedModel
from planet.search import Future
from planet.value import Guide
from tests.planet.tdmpc2.test_agent import TINY as TDMPC2
from tests.test_keys import check as check_keys
from tests.tiny import TINY, random_params

TASK, ENV = "gym_Pendulum-v1", EnvConfig(time_limit=6)
HEAD = HeadConfig(layers=1, units=8)
PLANNER = PlannerConfig(horizon=2, iterations=2, candidates=6, top=2, elites=2)
DREAMER = DreamerConfig(TASK, env=ENV, world_model=TINY, actor=ActorConfig(1, 8), critic=HEAD)
AGENTS = {
    "dreamer": (make_dreamer, DREAMER),
    "other": (make_dreamer, DREAMER),
    "planet": (make_planet, PlanetConfig(TASK, env=ENV, world_model=TINY, planner=PLANNER)),
    "tdmpc2": (
        make_planet,
        PlanetConfig(
            TASK, env=ENV, model="tdmpc2", tdmpc2=TDMPC2, planner=PLANNER,
            replay=ReplayConfig(length=4),
        ),
    ),
}  # fmt: skip


def specs_of(task=TASK, env=ENV):
    envs = make(task, env, 0)
    envs.close()
    return envs.observation_specs, envs.action_spec


def write_run(folder, make_agent, config, specs, seed=0):
    """A run folder with an agent that has learned nothing."""
    folder.mkdir(parents=True)
    agent = make_agent(config, *specs)
    params = random_params(lambda key: agent.params(agent.init(key)), seed=seed)
    params = jax.tree.map(lambda x: 5 * x, params)  # So that they do different things.
    name = "dreamer" if isinstance(config, DreamerConfig) else "planet"
    export(folder / EXPORT, name, config, *specs, params)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one task by the names of AGENTS; the first has episodes, the last is cut short."""
    root, specs = tmp_path_factory.mktemp("runs"), specs_of()
    for seed, (name, (make_agent, config)) in enumerate(AGENTS.items()):
        write_run(root / name, make_agent, config, specs, seed)
    envs, episodes = make(TASK, ENV, 1), []
    policy, action = RandomPolicy(envs.action_spec, 0), np.zeros((1, 1), np.float32)
    for length in (7, 7, 4):
        rows = []
        for _ in range(length):
            row = envs.step(action)
            rows.append({**row, "action": action * ~row["is_first"][:, None]})
            action = policy(row)
        while not row["is_last"][0]:
            row = envs.step(action)
        episodes.append({key: np.stack([row[key][0] for row in rows]) for key in rows[0]})
    envs.close()
    write_episodes(root / "dreamer" / "replay", episodes)
    return root


def paths(runs, *names):
    return [str(runs / name) for name in names or AGENTS]


class Memory(NamedTuple):
    """What ``Remembers`` remembers of each episode."""

    total: np.ndarray
    action: np.ndarray


class Remembers:
    """Does the sum of all that it saw and of all that was done since the episode began."""

    params = None

    def __init__(self):
        self.act_function = self
        self.agent = self

    def initial_carry(self, amount):
        return Memory(np.full((amount, 1), 9.0), np.zeros((amount, 1)))

    def __call__(self, params, key, carry, rows, mode):
        assert mode == "eval" and "action" not in rows
        before = np.where(rows["is_first"][:, None], 0, carry.total + carry.action)
        total = before + rows["vector"].sum(-1, keepdims=True)
        return key, 2 * total, Memory(total, 2 * total)


def test_each_logged_episode_has_a_memory_of_its_own(runs):
    """It remembers what was done there, not what it would have done."""
    candidates = load_candidates(paths(runs, "dreamer", "other"), False, 0, None)
    found = logged.read_logged(candidates, None, seed=3)
    assert found.rows["is_first"].shape == (7, 3) and found.length == 6
    assert len(found.chosen[0]) == 7 + 7 + 4  # All, where they are few; none beyond an end.
    assert found.starts["is_first"].all() and len(found.starts["reward"]) == 3
    actions = logged.actions_in(Remembers(), found, seed=0)
    episodes = read_episodes(runs / "dreamer" / "replay")
    for action, t, number in zip(actions, *found.chosen, strict=True):
        episode = episodes[number]
        seen = sum(episode["vector"][row].sum() for row in range(t + 1))
        done = sum(episode["action"][row].sum() for row in range(t + 1))
        np.testing.assert_allclose(action[0], 2 * (seen + done), rtol=1e-5)


def test_states_with_a_cost_are_compared_in_too(runs, tmp_path):
    episodes = read_episodes(runs / "dreamer" / "replay")
    paid = [one | {"cost": np.ones(len(one["reward"]), np.float32)} for one in episodes]
    write_episodes(tmp_path, paid)
    candidates = load_candidates(paths(runs, "dreamer", "other"), False, 0, None)
    free, costly = (
        logged.read_logged(candidates, data, seed=3)
        for data in (str(runs / "dreamer"), str(tmp_path))
    )
    assert free.rows.keys() == costly.rows.keys()
    np.testing.assert_array_equal(free.rows["vector"], costly.rows["vector"])


def test_distances_are_means_over_states():
    actions = np.random.default_rng(0).normal(size=(3, 6, 2))
    actions[2] = np.eye(2)[[0, 1, 0, 1, 1, 1]]
    found = logged.policy_distances(actions)
    for a in range(3):
        for b in range(3):
            gaps = [np.sqrt(((actions[a, m] - actions[b, m]) ** 2).sum()) for m in range(6)]
            np.testing.assert_allclose(found[a, b], np.mean(gaps))
    choices = np.eye(3)[[[0, 1], [0, 2]]]
    np.testing.assert_allclose(logged.policy_distances(choices)[0, 1], np.sqrt(2) / 2)


def test_the_imagined_return_is_a_sum_of_rewards():
    """A model whose state is one number, against a loop; it ends a little with every step."""

    def rollout(params, key, start, actions):
        last = params * start[:, None] + actions[:, :, 0]
        reward = 3 * last[:, :, 0:1] - actions[:, :, :, 0]
        return Future(reward, jnp.full(reward.shape, 0.8), last)

    memory = ModelMemory(lambda n: jnp.zeros((n, 1)), lambda p, k, m, rows: rows["x"], 1)
    guide = Guide(None, lambda params, key, state: 0.5 * state + 1, None, 1.0)
    planned = PlannedModel(
        None, None, memory, lambda params, keys, seen: seen + 1, None, rollout, guide
    )
    rows = {"x": np.array([[1.0], [-2.0]]), "is_first": np.ones(2, bool)}
    found = imagined.imagined_return(planned, 0.9, jax.random.key(0), rows, 4)
    for x, one in zip([1.0, -2.0], found, strict=True):
        state, wanted = x + 1, 0.0
        for step in range(4):
            action = 0.5 * state + 1
            state = 0.9 * state + action
            wanted += 0.8**step * (3 * state - action)
        np.testing.assert_allclose(one, wanted, rtol=1e-5)


def test_who_has_a_policy_expects_something(runs):
    candidates = load_candidates(paths(runs), False, 0, None)
    rows = logged.read_logged(candidates, None, 0)
    values = [imagined.expected_return(one.agent, rows.starts, 3, 0) for one in candidates]
    assert values[2] is None  # PlaNet has learned no policy.
    assert all(np.isfinite(value) for value in (*values[:2], values[3]))
    assert len(set(values)) == 4
    agent = candidates[0].agent
    own, agent.params = agent.params, {**agent.params, SMALL_ACTOR: {}}
    assert imagined.expected_return(agent, rows.starts, 3, 0) is None  # The small actor plays.
    agent.params = own
    world = dataclasses.replace(agent.config.world_model, reward_transform="tanh")
    agent.config = dataclasses.replace(agent.config, world_model=world)
    assert imagined.expected_return(agent, rows.starts, 3, 0) is None


@pytest.mark.parametrize("name", ["dreamer", "tdmpc2"])
def test_no_key_of_imagination_draws_twice(name, runs):
    agent = load_candidates(paths(runs, name, "planet"), False, 0, None)[0].agent
    rows = {"vector": np.zeros((2, 3), np.float32), "is_first": np.ones(2, bool)}
    rows |= {"action": np.zeros((2, 1), np.float32), "reward": np.zeros(2, np.float32)}
    planned = imagined.planned_of(agent)
    check_keys(
        lambda key: imagined.imagined_return(planned, agent.params, key, rows, 3), jax.random.key(0)
    )


def select(out, *words):
    return main(["select", *words, "--out", str(out)])


def test_the_best_is_chosen_verified_and_recorded(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(summary, "REPEATS", 3)
    words = ["--runs", *paths(runs), "--episodes", "6", "--verify", "2"]
    assert select(tmp_path, *words) == 0
    shown = capsys.readouterr()
    assert "planet has no policy for its world model" in shown.out
    assert "episode 6 of 6: " in shown.out and ", 0:00:00 left" in shown.out
    found = json.loads((tmp_path / command.SUMMARY).read_text())
    assert found["task"] == TASK and found["values"] is None
    assert sorted(found["arms"][:4]) == [0, 1, 2, 3] and len(found["arms"]) == 6
    assert [len(one) for one in found["verified"]] == [2, 2, 2, 2]
    assert f"choice: {found['choice']}, exported to {tmp_path / command.CHOICE}" in shown.out
    names = load_candidates([*paths(runs), str(tmp_path / command.CHOICE)], False, 0, None)
    marks = {one.name: one.mark for one in names}
    assert marks[command.CHOICE] == marks[found["choice"]]
    assert found["choice"] == list(AGENTS)[int(np.argmax(found["mean"]))]
    truth = [np.mean(one) for one in found["verified"]]
    last = found["regret"]["this selection"][-1]
    assert last == pytest.approx(max(truth) - truth[list(AGENTS).index(found["choice"])], abs=2e-3)
    assert "| A-OPS, nothing known before |" in shown.out and "| regret after" in shown.out
    assert (tmp_path / command.PICTURE).stat().st_size > 10_000
    assert select(tmp_path, *words) == 0  # All of it is there.
    assert "episode " not in capsys.readouterr().out.split("| candidate")[0]


@pytest.mark.parametrize(
    ("scale", "own", "episodes", "regrets"),
    [
        (0.7, [0.7, 0.1], [1, 2], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (0.0, [0.0], [1], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (40.0, [9.0, 0.0, 0.0], [1, 2, 3], [0, 1, 3, 10, 30]),
        (2000.0, [0.0] * 30, [5, 10, 15, 20, 25, 30], [0, 1, 3, 10, 30, 100, 300, 1000]),
    ],
)
def test_regrets_of_any_size_have_an_axis(tmp_path, monkeypatch, scale, own, episodes, regrets):
    """Whole episodes, several ticks, and zero above the lower edge; this selection is drawn."""
    kept = []
    monkeypatch.setattr(summary, "new_figure", lambda *x: kept.append(new_figure(*x)) or kept[0])
    line = {"mean": [scale / 2] * len(own), "error": [scale / 50] * len(own)}
    found = {"repeats": 3, "methods": {"A-OPS": line}, "this selection": own, "at random": scale}
    result = {"task": "dmc_$x_$y", "candidates": [["a", 0], ["b", 1]], "regret": found}
    summary.draw(result, tmp_path / "it.png")
    (axes,) = kept[0].axes
    for axis, wanted in ((axes.xaxis, episodes), (axes.yaxis, regrets)):
        low, high = axis.get_view_interval()
        shown = [tick for tick in axis.get_ticklocs() if low <= tick <= high]
        np.testing.assert_allclose(shown, wanted, atol=1e-12)
    low, high = axes.get_ylim()
    assert low < 0 and high > scale
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["this selection"].get_xdata()) == list(range(1, len(own) + 1))
    assert list(lines["this selection"].get_ydata()) == own
    assert "this selection" in [text.get_text() for text in kept[0].legends[0].get_texts()]


def test_a_killed_selection_goes_on_as_if_nothing_had_happened(runs, tmp_path, capsys):
    words = ["--runs", *paths(runs, "dreamer", "other"), "--seed", "5"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert select(whole, *words, "--episodes", "4") == 0
    assert select(parts, *words, "--episodes", "2") == 0
    with (parts / EPISODES).open("ab") as file:
        file.write(b'{"arm": 1, "retu')
    assert select(parts, *words, "--episodes", "4") == 0
    assert (parts / EPISODES).read_text() == (whole / EPISODES).read_text()
    kept = [json.loads((one / command.SUMMARY).read_text()) for one in (whole, parts)]
    assert kept[0]["choice"] == kept[1]["choice"] and kept[0]["mean"] == kept[1]["mean"]
    assert len(kept[0]["values"]) == 2
    assert select(whole, *words, "--episodes", "4", "--verify", "1") == 0
    assert "by the models alone: " in capsys.readouterr().out
    assert select(parts, *words[:-1], "6") == 2
    assert "was begun with other seed; choose another --out" in capsys.readouterr().err
    assert select(parts, "--runs", *paths(runs, "dreamer", "tdmpc2"), "--seed", "5") == 2
    assert "was begun with other candidates" in capsys.readouterr().err
    lines = (parts / EPISODES).read_text().splitlines()
    asked = json.loads(lines[0])
    asked["question"]["candidates"][1][1] += 1
    (parts / EPISODES).write_text("\n".join([json.dumps(asked), *lines[1:], ""]))
    assert select(parts, *words, "--episodes", "4") == 2
    assert "another other, which has learned since" in capsys.readouterr().err
    (parts / EPISODES).write_text('{"question": {}}\n')
    assert select(parts, *words) == 2
    assert "is damaged; delete it" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(runs, tmp_path, capsys):
    env = dataclasses.replace(ENV, time_limit=9)
    write_run(tmp_path / "longer", make_dreamer, dataclasses.replace(DREAMER, env=env), specs_of())
    other = dataclasses.replace(DREAMER, task="gym_CartPole-v1")
    late = dataclasses.replace(ENV, challenge=ChallengeConfig(delay=DelayConfig(actions=3)))
    write_run(tmp_path / "late", make_dreamer, dataclasses.replace(DREAMER, env=late), specs_of())
    write_run(tmp_path / "cart", make_dreamer, other, specs_of("gym_CartPole-v1"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / EXPORT).write_bytes(b"no export")
    mine, out = str(runs / "other"), tmp_path / "out"
    for words, message in [
        (["--runs", mine], "is the only candidate; name at least two"),
        (["--runs", mine, mine], "is the only candidate"),
        (["--runs", mine, str(tmp_path / "longer")], "different env.time_limit: 6 and 9"),
        (["--runs", mine, str(tmp_path / "late")], "env.challenge: none and delay.actions 3;"),
        (["--runs", mine, str(tmp_path / "cart")], "have different tasks: gym_Pendulum-v1 and"),
        (["--runs", mine, str(tmp_path / "broken")], "is damaged or no export"),
        (["--runs", mine, "runs/*"], "there is no trained agent at runs/*"),
        (["--runs", mine, str(runs / "planet")], "no candidate has recorded episodes"),
        ([], "the following arguments are required: --runs"),
        (["--runs", mine, "--episodes", "0"], "--episodes is 0; expected at least 1"),
        (["--runs", mine, "--verify", "-1"], "--verify is -1; expected at least 0"),
        (["--runs", mine, "--seed", "-1"], "--seed is -1; expected at least 0"),
        (["--runs", mine, "--warm-start", "q"], "invalid choice: 'q'"),
    ]:
        assert select(out, *words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    data = tmp_path / "data"
    strange = {"x": np.zeros((3, 2), np.float32), "action": np.zeros((3, 1), np.float32)}
    strange |= {"reward": np.zeros(3, np.float32), "is_first": np.arange(3) == 0}
    write_episodes(data, [strange | {key: np.arange(3) == 2 for key in ("is_last", "is_terminal")}])
    words = ["--runs", mine, str(runs / "planet"), "--data", str(data)]
    assert select(out, *words) == 2
    assert "name others by --data" in capsys.readouterr().err


def test_names_tell_candidates_apart(tmp_path):
    for folder in ("a/run", "b/run"):
        write_run(tmp_path / folder, make_dreamer, DREAMER, specs_of())
    found = load_candidates([str(tmp_path / "a/run"), str(tmp_path / "b/run")], False, 0, None)
    assert [one.name for one in found] == ["a/run", "b/run"]
    # What differs in nothing but parameters is compiled once.
    assert found[0].agent.act_function is found[1].agent.act_function
