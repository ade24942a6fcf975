import dataclasses

import numpy as np
import pytest

from common.envs import EnvConfig, make
from common.envs.dmc_rewards import REWARDS
from common.envs.simulator import Simulator
from common.errors import UserError

STATE = EnvConfig(pixels=False, state=True, action_repeat=-1)


def started(task, amount=2, **changes):
    config = dataclasses.replace(STATE, workers="none", **changes)
    envs = make(f"dmc_{task}", config, 0, amount)
    envs.step(np.zeros((amount, envs.action_spec.size)))  # The reset.
    return envs


VARIANTS = [f"{task}@3" for task in sorted(REWARDS)]


@pytest.mark.parametrize("task", [*sorted(REWARDS), *VARIANTS])
def test_predicted_rewards_are_those_of_the_environment(task):
    envs = started(task)
    rng = np.random.default_rng(1)
    for _ in range(8):  # Somewhere, so that contacts and warm starts matter.
        envs.step(rng.uniform(-1, 1, (2, envs.action_spec.size)))
    simulator = Simulator(envs, threads=2)
    actions = rng.uniform(-1.3, 1.3, (2, 4, 9, envs.action_spec.size)).astype(np.float32)
    predicted, last = simulator.follow(simulator.states(), actions)
    assert predicted.shape == (2, 4, 9)
    real = [[envs.local(n).step(a)["reward"] for a in actions[n, 3]] for n in range(2)]
    np.testing.assert_allclose(predicted[:, 3], real, rtol=1e-9, atol=1e-9)
    reached, size = simulator.states(), envs.local(0).environment.physics.model.nv
    np.testing.assert_allclose(last[:, 3, :-size], reached[:, :-size], rtol=1e-9, atol=1e-9)
    simulator.close()


@pytest.mark.parametrize("task", ["finger_spin", "cup_catch", "reacher_easy"])
def test_sparse_rewards_agree_where_they_are_earned(task):
    """Random actions rarely earn them, so the state is put where they are."""
    envs = started(task, 1)
    env = envs.local(0)
    with env.environment.physics.reset_context():
        data = env.environment.physics.named.data
        if task == "finger_spin":
            data.qvel["hinge"] = -30
        elif task == "cup_catch":
            away = data.site_xpos["target", ["x", "z"]] - data.xpos["ball", ["x", "z"]]
            data.qpos[["ball_x", "ball_z"]] += away
        else:
            target = env.environment.physics.named.model.geom_pos["target"]
            target[:2] = data.geom_xpos["finger"][:2]
    simulator = Simulator(envs, threads=1)
    actions = np.zeros((1, 1, 6, 2), np.float32)
    predicted = simulator.follow(simulator.states(), actions)[0][0, 0]
    real = [env.step(action)["reward"] for action in actions[0, 0]]
    assert sum(real) >= 1
    np.testing.assert_allclose(predicted, real, rtol=1e-9, atol=1e-9)


def test_predicting_leaves_the_environment_as_it_is():
    used, untouched = started("cheetah_run"), started("cheetah_run")
    simulator = Simulator(used)
    simulator.follow(simulator.states(), np.ones((2, 3, 12, 6), np.float32))
    for _ in range(5):
        rows, others = used.step(np.ones((2, 6))), untouched.step(np.ones((2, 6)))
        np.testing.assert_array_equal(rows["velocity"], others["velocity"])


def test_results_do_not_depend_on_threads():
    envs = started("walker_walk", 1)
    actions = np.random.default_rng(0).uniform(-1, 1, (1, 7, 4, 6))
    one, three = Simulator(envs, threads=1), Simulator(envs, threads=3)
    np.testing.assert_array_equal(
        one.follow(one.states(), actions)[0], three.follow(three.states(), actions)[0]
    )


def test_a_task_without_batched_reward_is_named():
    with pytest.raises(UserError, match="no batched reward of 'dmc_hopper_hop'"):
        Simulator(started("hopper_hop", 1))


def test_other_environments_cannot_be_simulated():
    with pytest.raises(UserError, match="only tasks of the control suite"):
        Simulator(make("gym_CartPole-v1", EnvConfig(), 0, 1))
    workers = make("dmc_reacher_easy", dataclasses.replace(STATE, workers="process"), 0, 1)
    with pytest.raises(UserError, match="set --env.workers none"):
        Simulator(workers)
    workers.close()
