"""Decisions of TD-MPC2 against the public code's, candidate by candidate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planet import mppi
from planet.beliefs import Belief, initial_belief, shift
from planet.controller import deviate
from planet.search import Noise, Options, search_with_noise
from planet.tdmpc2.model import make_model
from planet.tdmpc2.planned import planned_model
from tests import golden_tdmpc2_agent as agents
from tests.compiling import jitted
from tests.golden_data import FOLDER_TDMPC2, assert_exact, assert_values, every_array, load

FILES = ("plan", "plan_episodic", "plan_nopi", "plan_multitask")


class Planner:
    """The planner of a golden file, that writes down what it tries and what it is told."""

    def __init__(self, name):
        self.arrays = load(name, FOLDER_TDMPC2)
        self.golden = agents.Golden.of_file(self.arrays, "s0.in.obs", axes=0)
        self.params, _ = self.golden.load("w")
        size = int(self.arrays["cfg.action_dim"])
        self.actions = agents.action_spec(size)
        self.model = jitted(make_model(self.golden.networks, self.golden.config, size))
        discount = self.arrays["cfg.discount"].tolist()
        size = self.golden.config.latent + self.golden.tasks
        self.planned = planned_model(self.model, size, discount, all_members=False)
        self.tried, self.refitted = [], []
        self.search = jax.jit(self._search)
        setting = lambda name: self.arrays[f"cfg.{name}"]  # noqa: E731
        self.std = float(setting("min_std")), float(setting("max_std"))
        # The public code multiplies by its temperature.
        self.refit = mppi.refitting(
            1 / float(setting("temperature")), int(setting("num_elites")), self.std
        )
        self.amount = int(setting("num_samples")) - int(setting("num_pi_trajs"))
        self.options = Options(
            self.actions, int(setting("horizon")), int(setting("iterations")), self.amount,
            1.0, True, None,
        )  # fmt: skip

    def rollout(self, params, noise, start, actions):
        future = self.planned.rollout(params, None, start, actions)
        last = self.model.act(params, noise[0][None], future.last)
        value = self.model.value_of(params, noise[1], future.last, last)
        future = future._replace(value=value)
        write = lambda *seen: self.tried.append(seen)  # noqa: E731
        jax.debug.callback(write, actions[0], future, last[0], ordered=True)
        return future

    def update(self, belief, sequences, returns):
        new = self.refit(belief, sequences, returns)
        jax.debug.callback(self.refitted.append, new, ordered=True)
        return new

    def _search(self, noise, start, belief, kept):
        guide = self.planned.guide
        mask = guide.mask(start) if guide.mask else None
        options = self.options._replace(discount=self.discount(start), mask=mask)
        return search_with_noise(
            self.update, self.rollout, self.params, noise, start, options, belief, kept
        )

    def discount(self, start):
        """That of the task, where there are several."""
        discount = self.planned.guide.discount
        return discount(start) if callable(discount) else discount

    def rows(self, case):
        """What is seen, and the task."""
        rows = {
            "obs": case["in.obs"][None],
            "is_first": np.array(["in.t0" in case and bool(case["in.t0"])]),
        }
        if self.golden.tasks:
            rows["task"] = np.eye(self.golden.tasks, dtype=np.float32)[case["in.task"]][None]
        return rows

    def belief(self, case):
        first = initial_belief(self.actions, 1, self.options.horizon, self.std[1])
        mean = case["in.prev_mean"][None]
        return first if case["in.t0"] else shift(Belief(mean, first.std), self.actions, self.std[1])

    def proposals(self, case, start):
        """What the policy does in the model, ``[1, P, H, A]``, by recorded draws."""
        if "pi_trajs" not in case:
            return jnp.zeros((1, 0, self.options.horizon, self.actions.size))
        z, acts = jnp.repeat(start, case["pi_trajs"].shape[1], 0), []
        for noise in case["in.eps_pi_trajs"]:
            acts.append(self.model.act(self.params, noise, z))
            z = self.model.step(self.params, z, acts[-1])[0]
        assert_values(jnp.stack(acts), case["pi_trajs"])
        return jnp.stack(acts, 1)[None]


@pytest.fixture(scope="module", params=FILES)
def planner(request):
    return Planner(request.param)


def decisions(planner):
    return [name for name in ("s0", "s1", "s2", "s3") if f"{name}.in.obs" in planner.arrays]


def decide(planner, case):
    """Plans with the recorded draws."""
    iterations = planner.options.iterations
    keys = jax.random.split(jax.random.key(0), 1)
    memory = planner.planned.memory.remember(planner.params, keys, None, planner.rows(case))
    start = planner.planned.start(planner.params, keys, memory)
    kept = planner.proposals(case, start)
    choice = np.zeros((1, planner.amount + kept.shape[1]), np.float32)
    choice[0, case["elite_idxs"][-1]] = -np.log(case["in.exponential"])
    noise = Noise(
        np.moveaxis(case["in.noise"], 1, 2)[:, None],
        (case["in.eps_terminal"], case["in.perm"]),
        jax.random.split(jax.random.key(0), iterations),
        choice,
    )
    planner.tried.clear()
    planner.refitted.clear()
    plan = planner.search(noise, start, planner.belief(case), kept)
    jax.effects_barrier()
    return plan, planner.discount(start)


@pytest.mark.parametrize("index", range(4))
def test_decision(planner, index):
    """Every candidate, its value, and the belief after every iteration."""
    name = decisions(planner)[index]
    with every_array(planner.arrays.case(name)) as case:
        plan, discount = decide(planner, case)
        assert len(planner.tried) == len(planner.refitted) == len(case["value"])
        for now, (tried, future, last) in enumerate(planner.tried):
            (mean, std), weights = planner.refitted[now]
            assert_values(mean[0], case["mean"][now])
            assert_values(std[0], case["std"][now])
            assert_values(weights[0, case["elite_idxs"][now]], case["score"][now, :, 0])
            assert_values(np.moveaxis(tried, 0, 1), case["actions"][now])
            whole = future.returns(discount)
            assert_values(whole[0][:, None], case["value"][now])
            future = future._replace(value=None)
            returns = future.returns(discount)
            assert_values(returns[0][:, None], case["est.G"][now])
            assert_values(last, case["est.action"][now])
            alive = 1.0 if future.continues is None else future.continues.prod(-1)[0]
            assert_exact(np.broadcast_to(1 - alive, len(last)), case["est.termination"][now, :, 0])
        chosen = case["elite_idxs"][-1, case["chosen"]]
        assert_values(plan.action[0], planner.tried[-1][0][chosen, 0])
        action = plan.action
        if "in.noise_action" in case:
            action = deviate(plan, case["in.noise_action"][None])
        assert ("in.noise_action" in case) == (not case["in.eval_mode"])
        assert_values(action[0], case["action"])
        assert_values(plan.belief.mean[0], case["prev_mean_after"])


def test_acting_by_the_policy_alone(planner):
    if "nompc.in.obs" not in planner.arrays:
        pytest.skip("not in this file")
    with every_array(planner.arrays.case("nompc")) as case:
        z = planner.model.encode(planner.params, planner.rows(case), None)
        drawn = planner.model.act(planner.params, case["in.eps"], z)
        assert_values(drawn[0], case["action_train"])
        assert_values(planner.model.best(planner.params, z)[0], case["action_eval"])


def test_the_choice_alone(planner):
    if "choice.out" not in planner.arrays:
        pytest.skip("not in this file")
    with every_array(planner.arrays.case("choice")) as case:
        noise = -np.log(case["in.exponential"])
        got = (np.log(case["in.score"]) + noise).argmax(-1)
        assert_exact(got, case["out"])
