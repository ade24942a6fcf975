import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envs import EnvConfig, crew, make
from common.envs.pictures import NoPicture
from common.envs.waiting import Stopped, stopped_by
from common.envs.workers import LocalWorker, ProcessWorker
from common.errors import UserError, warn_once
from tests.envs.toys import Counter, Faulty, Single

TOYS = "tests.envs.toys"


def _steps(envs, amount, seed=0):
    rng = np.random.default_rng(seed)
    rows = [envs.step(envs.action_spec.sample(rng, envs.num_envs)) for _ in range(amount)]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _faulty(workers, amount=1, **kwargs):
    return make(f"{TOYS}:Faulty", EnvConfig(workers=workers, amount=amount, kwargs=kwargs), 0)


def test_autoreset_gives_the_reset_row_after_the_last_row():
    envs = make(Counter, EnvConfig(workers="none", kwargs={"end": 3}), 0, num_envs=2)
    rows = _steps(envs, 9)
    np.testing.assert_array_equal(rows["count"][:, 0, 0], [0, 1, 2, 3, 0, 1, 2, 3, 0])
    np.testing.assert_array_equal(rows["reward"][:, 1], [0, 1, 2, 3, 0, 1, 2, 3, 0])
    np.testing.assert_array_equal(np.flatnonzero(rows["is_first"][:, 0]), [0, 4, 8])
    np.testing.assert_array_equal(np.flatnonzero(rows["is_last"][:, 0]), [3, 7])
    np.testing.assert_array_equal(rows["is_terminal"], rows["is_last"])
    np.testing.assert_array_equal(rows["log/count"], rows["count"][:, :, 0])


def test_worker_processes_load_no_jax():
    envs = make(f"{TOYS}:Modules", EnvConfig(workers="process"), 0)
    rows = _steps(envs, 3)
    envs.close()
    loaded = {key for key in rows if key.startswith("log/") and rows[key][-1] == 1}
    assert loaded == {"log/worker"} and rows["log/jax"][-1] == 0


def test_the_action_of_a_reset_row_is_ignored():
    toy = Counter(end=2)
    envs = make(lambda: toy, EnvConfig(workers="none"), 0)
    _steps(envs, 6)
    assert len(toy.actions) == 4


def test_rows_agree_with_the_protocol():
    envs = make(Counter, EnvConfig(workers="none"), 0, num_envs=3)
    row = envs.step(np.zeros((3, envs.action_spec.size)))
    for key, spec in envs.observation_specs.items():
        assert (row[key].shape, row[key].dtype) == ((3, *spec.shape), spec.dtype)
        assert envs.observation_space[key].contains(row[key][0])
    assert "action" not in row and envs.num_envs == 3 and envs.action_repeat == 1
    assert envs.action_space == Counter().action_space


def test_workers_and_one_process_give_equal_rows():
    kwargs = {"end": 4, "truncate": True}
    config = EnvConfig(workers="none", action_repeat=3, kwargs=kwargs)
    local = make(f"{TOYS}:Counter", config, 3, num_envs=2)
    remote = make(f"{TOYS}:Counter", EnvConfig(action_repeat=3, kwargs=kwargs), 3, num_envs=2)
    for _ in range(2):
        one, other = _steps(local, 7), _steps(remote, 7)
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
            assert one[key].dtype == other[key].dtype
        for index in range(local.num_envs):
            np.testing.assert_array_equal(local.render(index), remote.render(index))
    assert (one["random"][:, 0] != one["random"][:, 1]).any()
    assert remote.observation_specs == local.observation_specs
    assert remote.observation_space == local.observation_space
    remote.close()


def test_control_suite_workers_give_equal_rows():
    config = dict(pixels=False, state=True)
    local = make("dmc_walker_walk", EnvConfig(workers="none", **config), 1, num_envs=2)
    remote = make("dmc_walker_walk", EnvConfig(**config), 1, num_envs=2)
    one, other = _steps(local, 10), _steps(remote, 10)
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])
    remote.close()


def test_stepping_overlaps_with_the_parent():
    envs = _faulty("process")
    envs.step_async(np.zeros((1, 1)))
    assert envs._crews[0].worker._pipe.poll(20)  # The row is there before it is asked for.
    assert envs.step_wait()["is_first"][0]
    envs.close()


@pytest.mark.parametrize(
    ("workers", "fault", "reason"),
    [
        ("none", "raise", "RuntimeError: the motor burnt out"),
        ("process", "raise", "RuntimeError: the motor burnt out"),
        ("none", "exit", "SystemExit: 0"),
        ("process", "exit", "SystemExit: 0"),
        ("process", "kill", "the worker process was killed by SIGKILL"),
    ],
)
def test_a_crash_closes_the_episode_and_the_run_goes_on(workers, fault, reason, tmp_path, capfd):
    envs = _faulty(workers, fault=fault, at=3, once=str(tmp_path / "done"))
    rows = _steps(envs, 9)
    envs.close()
    np.testing.assert_array_equal(rows["vector"][:, 0, 0], [0, 1, 2, 2, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(rows["is_first"][:, 0], [1, 0, 0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(rows["is_last"][:, 0], [0, 0, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(rows["reward"][:, 0], [0, 1, 1, 0, 0, 1, 1, 1, 1])
    assert not rows["is_terminal"].any()
    numbers = rows["vector"][:, 0, 1]
    assert numbers[0] == numbers[3] != numbers[4]  # A new seed, lest it crash alike.
    printed = capfd.readouterr().err
    assert f"warning: environment 0 crashed ({reason})" in printed
    if fault == "raise":
        assert "Traceback" in printed and 'raise RuntimeError("the motor burnt out")' in printed


def test_a_killed_idle_worker_is_replaced_and_the_other_does_not_notice():
    envs = _faulty("process", amount=2)
    calm = _faulty("none", amount=2)
    _steps(envs, 3), _steps(calm, 3)
    os.kill(envs._crews[0].worker._process.pid, signal.SIGKILL)
    rows, expected = _steps(envs, 4), _steps(calm, 4)
    np.testing.assert_array_equal(rows["is_last"], [[1, 0], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(rows["is_first"], [[0, 0], [1, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(rows["vector"][:, 1], expected["vector"][:, 1])
    envs.close()


def test_a_crash_in_the_reset_adds_no_row(tmp_path):
    envs = _faulty("none", fault="raise", at=0, once=str(tmp_path / "done"))
    rows = _steps(envs, 3)
    np.testing.assert_array_equal(rows["is_first"][:, 0], [1, 0, 0])
    assert not rows["is_last"].any()


def test_repeated_crashes_end_the_run():
    envs = _faulty("none", fault="raise", at=0)
    with pytest.raises(UserError, match="crashed 3 times without a completed step.*burnt out"):
        _steps(envs, 9)


def test_crashes_with_steps_between_are_borne_for_a_while():
    envs = _faulty("none", fault="raise", at=2)
    rows = _steps(envs, 20)
    assert rows["is_last"].sum() == 6


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(0, 300))
def test_crashes_that_come_too_often_end_the_run(period, calm):
    """However long it went well before: one step in so many is the limit."""
    spoilt = Faulty()
    spoilt.steps = 0

    def step(action):
        spoilt.steps += 1
        if spoilt.steps > calm and (spoilt.steps - calm) % (period + 1) == 0:
            raise RuntimeError("the motor burnt out")
        return Faulty.step(spoilt, action)

    spoilt.step = step
    envs = make(lambda: spoilt, EnvConfig(workers="none"), 0)
    with contextlib.redirect_stderr(io.StringIO()):
        if period >= crew.SHARE:
            _steps(envs, calm + 12 * (period + 2))
            return
        with pytest.raises(UserError, match=rf"10 times within {9 * period} steps, .* in 20"):
            _steps(envs, calm + 12 * (period + 2))


def test_a_worker_that_hangs_is_ended_and_its_episode_closed(tmp_path, capfd):
    envs = _faulty("process", fault="hang", at=2, once=str(tmp_path / "done"))
    rows = [_steps(envs, 2)]
    hung = envs._crews[0].worker
    hung._timeout = 0.3  # Of this step; what is built anew has as long as ever.
    rows += [_steps(envs, 4)]
    envs.close()
    found = {key: np.concatenate([part[key] for part in rows])[:, 0] for key in rows[0]}
    np.testing.assert_array_equal(found["vector"][:, 0], [0, 1, 1, 0, 1, 2])
    np.testing.assert_array_equal(found["is_last"], [0, 0, 1, 0, 0, 0])
    assert hung._process.exitcode == -signal.SIGKILL
    printed = capfd.readouterr().err
    assert "environment 0 crashed (no answer for 0.3 s, its env.timeout)" in printed


def test_an_environment_that_is_never_built_is_named_and_ended():
    config = EnvConfig(workers="process", timeout=0.5, kwargs={"fault": "stuck"})
    with pytest.raises(UserError, match="could not be built: no answer for 0.5 s"):
        make(f"{TOYS}:Faulty", config, 0)


def test_waiting_for_a_worker_is_given_up_where_the_run_is_told_to_stop(tmp_path):
    envs = _faulty("process", fault="hang", at=1, once=str(tmp_path / "done"))
    _steps(envs, 1)
    with pytest.raises(Stopped), stopped_by((tmp_path / "done").exists):
        _steps(envs, 1)
    process = envs._crews[0].worker._process
    envs.close()
    assert process.exitcode is not None


def test_a_worker_that_hangs_ends_after_its_parent(tmp_path):
    """Nobody is left to end it: the parent was killed."""
    code = (
        "import numpy as np; from common.envs import EnvConfig, make\n"
        "if __name__ == '__main__':\n"
        f"    kwargs = dict(fault='hang', at=0, once={str(tmp_path / 'hangs')!r})\n"
        "    config = EnvConfig(workers='process', kwargs=kwargs)\n"
        f"    envs = make('{TOYS}:Faulty', config, 0)\n"
        "    print(envs._crews[0].worker._process.pid, flush=True)\n"
        "    envs.step(np.zeros((1, 1)))\n"
    )
    (tmp_path / "parent.py").write_text(code)
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        while not (tmp_path / "hangs").exists():
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    while True:  # Until it is gone; the suite's own limit ends a test that waits for ever.
        try:
            os.kill(worker, 0)
            state = pathlib.Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":  # Ended; nobody has asked how.
            return
        time.sleep(0.05)


def test_a_render_that_fails_is_no_crash():
    config = EnvConfig(workers="process")
    for task, words in (("floating", "float64"), ("broken", "render.. raised OSError: no display")):
        envs = make(f"{TOYS}:{task}", config, 0)
        _steps(envs, 2)
        with pytest.raises(NoPicture, match=words):
            envs.render()
        assert not _steps(envs, 1)["is_last"].any()
        envs.close()


def test_fewer_environments_where_not_all_can_be_built(capsys):
    Single.alive = 0
    warn_once.cache_clear()
    with pytest.raises(UserError, match="create a second one.*set --env.workers process"):
        make(Single, EnvConfig(workers="none"), 0, num_envs=3)
    assert not Single.alive and "Traceback" in capsys.readouterr().err
    envs = make(Single, EnvConfig(workers="none"), 0, num_envs=3, fewer=True)
    assert envs.num_envs == 1 and len(_steps(envs, 3)["reward"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "only 1 of 3 environments can be built" in line and "create a second one" in line
    # Beside it there is no room at all in this process.
    alone = make(f"{TOYS}:Single", EnvConfig(workers="none"), 0, num_envs=3, fewer=True)
    assert alone.num_envs == 1 and type(alone._crews[0].worker) is ProcessWorker
    (line,) = capsys.readouterr().err.splitlines()
    assert "one in a process of its own can be" in line and "--env.workers process" in line
    alone.close()
    with pytest.raises(UserError, match="create a second one"):  # Nor can it be sent elsewhere.
        make(lambda: Single(), EnvConfig(workers="none"), 0, num_envs=3, fewer=True)
    envs.close()


@pytest.mark.parametrize("workers", ["none", "process"])
def test_bad_observations_are_the_users_to_mend(workers):
    envs = _faulty(workers, fault="nan", at=1)
    with pytest.raises(UserError, match="observation 'vector' holds nan"):
        _steps(envs, 3)
    envs.close()


@pytest.mark.parametrize("workers", ["none", "process"])
def test_errors_of_the_constructor_are_forwarded(workers, capfd):
    with pytest.raises(UserError, match="could not be built: RuntimeError: the maze has no exit"):
        _faulty(workers, fault="build")
    assert 'raise RuntimeError("the maze has no exit")' in capfd.readouterr().err


def test_unknown_tasks_are_named_by_workers_too():
    with pytest.raises(UserError, match="did you mean 'dmc_walker_walk'"):
        make("dmc_walker_wlk", EnvConfig(workers="process"), 0)


def test_a_factory_without_a_name_needs_one_process():
    with pytest.raises(UserError, match="top of a module, or use --env.workers none"):
        make(lambda: Faulty(), EnvConfig(amount=2), 0)
    assert make(lambda: Faulty(), EnvConfig(amount=2, workers="none"), 0).num_envs == 2


def test_one_environment_stays_in_this_process():
    envs = _faulty("auto")
    assert type(envs._crews[0].worker) is LocalWorker


def test_more_than_one_get_workers_which_close_ends():
    envs = _faulty("auto", amount=2)
    assert [type(crew.worker) for crew in envs._crews] == [ProcessWorker, ProcessWorker]
    pids = [crew.worker._process.pid for crew in envs._crews]
    envs.step_async(np.zeros((2, 1)))
    envs.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("action", [np.full((1, 1), np.nan), np.full((1, 1), np.inf)])
def test_no_environment_sees_a_non_finite_action(action):
    toy = Faulty()
    envs = make(lambda: toy, EnvConfig(workers="none"), 0)
    with pytest.raises(FloatingPointError, match="non-finite action"):
        envs.step(action)


def test_one_frame_missing_means_no_frames():
    envs = make(Faulty, EnvConfig(workers="none"), 0)
    envs.step(np.zeros((1, 1)))
    assert envs.render() is None
