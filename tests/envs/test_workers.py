"""Several environments in one worker process."""

import os
import signal

import numpy as np
import pytest

from common.envs import EnvConfig, make
from common.envs.waiting import Stopped, stopped_by
from common.errors import UserError, warn_once
from tests.envs.test_crew import check_equal

TOYS = "tests.envs.toys"


def steps(envs, amount, seed=0):
    """Rows of some steps, with actions that are drawn for them."""
    rng = np.random.default_rng(seed)
    return [envs.step(envs.action_spec.sample(rng, envs.num_envs)) for _ in range(amount)]


def column(rows, key):
    """One entry of all steps ``[T, N]``."""
    return np.stack([row[key] for row in rows])


def faulty(amount, per_worker, workers="process", timeout=600.0, **kwargs):
    """Environments that fail in a chosen way."""
    config = EnvConfig(
        workers=workers, amount=amount, per_worker=per_worker, timeout=timeout, kwargs=kwargs
    )
    return make(f"{TOYS}:Faulty", config, 0)


def pids(envs):
    """Processes of the workers."""
    return [crew.worker._process.pid for crew in envs._crews]


@pytest.mark.parametrize("per_worker, groups", [(0, 4), (1, 4), (3, 2), (9, 1)])
def test_rows_are_those_of_local_environments(per_worker, groups):
    options = dict(action_repeat=3, kwargs={"end": 7})
    local = make(f"{TOYS}:Counter", EnvConfig(workers="none", **options), 3, num_envs=4)
    config = EnvConfig(workers="process", per_worker=per_worker, **options)
    remote = make(f"{TOYS}:Counter", config, 3, num_envs=4)
    assert len(set(pids(remote))) == groups
    expected = steps(local, 11)
    assert column(expected, "is_last").sum(0).tolist() == [2] * 4
    check_equal(steps(remote, 11), expected)
    for index in range(4):
        np.testing.assert_array_equal(local.render(index), remote.render(index))
    assert remote.observation_specs == local.observation_specs
    assert remote.action_space == local.action_space
    remote.close()


def test_sixty_four_environments():
    config = EnvConfig(workers="process", amount=64, per_worker=32, kwargs={"end": 2})
    local = make(f"{TOYS}:Counter", EnvConfig(workers="none", kwargs={"end": 2}), 1, num_envs=64)
    envs = make(f"{TOYS}:Counter", config, 1)
    check_equal(steps(envs, 5), steps(local, 5))
    envs.close()


def test_one_that_crashes_leaves_its_neighbours_and_its_process_alone(tmp_path, capfd):
    envs = faulty(3, 3, fault="raise", at=2, once=str(tmp_path / "done"))
    calm, before = faulty(3, 3, workers="none"), pids(envs)
    rows, expected = steps(envs, 6), steps(calm, 6)
    vector = column(rows, "vector")
    np.testing.assert_array_equal(vector[:, 0, 0], [0, 1, 1, 0, 1, 2])
    np.testing.assert_array_equal(column(rows, "is_last")[:, 0], [0, 0, 1, 0, 0, 0])
    assert vector[2, 0, 1] != vector[3, 0, 1]
    np.testing.assert_array_equal(vector[:, 1:], column(expected, "vector")[:, 1:])
    assert not column(rows, "is_last")[:, 1:].any() and pids(envs) == before
    printed = capfd.readouterr().err
    assert 'raise RuntimeError("the motor burnt out")' in printed
    assert "warning: environment 0 crashed (RuntimeError: the motor burnt out)" in printed
    envs.close()


def test_one_alone_in_its_process_gets_a_new_one(tmp_path):
    envs = faulty(1, 0, fault="raise", at=2, once=str(tmp_path / "done"))
    before = pids(envs)
    steps(envs, 4)
    assert pids(envs) != before
    envs.close()


def test_a_killed_worker_closes_all_of_its_episodes_and_no_others(capfd):
    envs, calm = faulty(4, 3), faulty(4, 3, workers="none")
    steps(envs, 3), steps(calm, 3)
    before = pids(envs)
    os.kill(before[0], signal.SIGKILL)
    rows, expected = steps(envs, 4), steps(calm, 4)
    np.testing.assert_array_equal(column(rows, "is_last")[:, :3], [[1] * 3] + [[0] * 3] * 3)
    np.testing.assert_array_equal(column(rows, "is_first")[1:, :3], [[1] * 3] + [[0] * 3] * 2)
    np.testing.assert_array_equal(column(rows, "reward")[:2, :3], 0)
    assert not column(rows, "is_terminal").any()
    np.testing.assert_array_equal(column(rows, "vector")[0, :3, 0], [2, 2, 2])
    np.testing.assert_array_equal(column(rows, "vector")[:, 3], column(expected, "vector")[:, 3])
    assert len(set(column(rows, "vector")[-1, :, 1])) == 4
    assert pids(envs)[0] != before[0] and pids(envs)[1] == before[1]
    words = "environments 0 to 2 crashed (the worker process was killed by SIGKILL); they start"
    assert words in capfd.readouterr().err
    envs.close()


def test_a_worker_in_which_one_hangs_is_ended(tmp_path, capfd):
    envs = faulty(2, 2, fault="hang", at=2, once=str(tmp_path / "done"))
    rows = steps(envs, 2)
    hung = envs._crews[0].worker
    hung._timeout = 0.3  # Of this step; what is built anew has as long as ever.
    rows += steps(envs, 3)
    np.testing.assert_array_equal(column(rows, "vector")[:, :, 0].T, [[0, 1, 1, 0, 1]] * 2)
    np.testing.assert_array_equal(column(rows, "is_last").T, [[0, 0, 1, 0, 0]] * 2)
    assert hung._process.exitcode == -signal.SIGKILL
    words = "environments 0 to 1 crashed (no answer for 0.3 s, its env.timeout)"
    assert words in capfd.readouterr().err
    envs.close()


def test_waiting_for_a_group_is_given_up_where_the_run_is_told_to_stop(tmp_path):
    envs = faulty(2, 2, fault="hang", at=1, once=str(tmp_path / "done"))
    steps(envs, 1)
    with pytest.raises(Stopped, match="environments 0 to 1"):
        with stopped_by((tmp_path / "done").exists):
            steps(envs, 1)
    envs.close()


def test_fewer_environments_where_a_process_holds_only_one(capsys):
    warn_once.cache_clear()
    config = EnvConfig(workers="process", per_worker=2)
    with pytest.raises(UserError, match="could not be built: RuntimeError: cannot create a second"):
        make(f"{TOYS}:Single", config, 0, num_envs=3)
    assert "Traceback" in capsys.readouterr().err
    envs = make(f"{TOYS}:Single", config, 0, num_envs=3, fewer=True)
    assert envs.num_envs == 2 and column(steps(envs, 14), "is_last").sum(0).tolist() == [1, 1]
    assert "only 2 of 3 environments can be built" in capsys.readouterr().err
    envs.close()


def test_a_users_mistake_in_one_ends_the_run_and_its_neighbours_are_closed():
    envs = faulty(2, 2, fault="nan", at=1)
    with pytest.raises(UserError, match="observation 'vector' holds nan"):
        steps(envs, 3)
    process = envs._crews[0].worker._process
    envs.close()
    assert process.exitcode == 0


def test_groups_are_for_workers():
    """Environments of this process, and Atari, take no notice."""
    assert faulty(2, 5, workers="none").num_envs == 2
    atari = make("atari_pong", EnvConfig(per_worker=2), 0, num_envs=3)
    assert atari.num_envs == 3
    atari.close()


@pytest.mark.parametrize("amount", [-1, 1025])
def test_sizes_out_of_range_are_refused(amount):
    with pytest.raises(UserError, match=f"per_worker is {amount}"):
        EnvConfig(per_worker=amount)
