"""Environments in actors of a real Ray."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from common import cluster
from common.envs import EnvConfig, make
from common.envs.ray_actors import RayWorker
from common.envs.waiting import Stopped, stopped_by
from common.errors import UserError
from tests.envs.test_crew import check_equal
from tests.envs.test_workers import column, faulty, steps
from tests.envs.toys import Faulty

pytest.importorskip("ray")
TOYS = "tests.envs.toys"
ROOT = str(pathlib.Path(__file__).resolve().parents[2])


@pytest.fixture(scope="module")
def ray():
    """A Ray that stays for all tests of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster.connected("the tests", [ROOT]) as module:
            yield module


def pid(ray, worker):
    """The process of an actor."""
    return ray.get(worker._actor.__ray_call__.remote(lambda _: os.getpid()))


def wait_until_gone(process):
    """Waits until there is no such process."""
    while pathlib.Path(f"/proc/{process}").exists():
        time.sleep(0.05)


def test_rows_are_those_of_local_environments(ray):
    options = dict(action_repeat=3, kwargs={"end": 7})
    local = make(f"{TOYS}:Counter", EnvConfig(workers="none", **options), 3, num_envs=4)
    config = EnvConfig(workers="ray", per_worker=2, **options)
    remote = make(f"{TOYS}:Counter", config, 3, num_envs=4)
    assert [type(crew.worker) for crew in remote._crews] == [RayWorker] * 2
    found = steps(remote, 11)
    check_equal(found, steps(local, 11))
    assert all(array.flags.writeable for array in found[0].values())
    for index in range(4):
        np.testing.assert_array_equal(local.render(index), remote.render(index))
    assert remote.observation_specs == local.observation_specs
    assert remote.action_space == local.action_space
    with pytest.raises(UserError, match="set --env.workers none"):
        remote.local(0)
    processes = [pid(ray, crew.worker) for crew in remote._crews]
    remote.close()
    for process in processes:
        wait_until_gone(process)
    remote.close()  # Once more does nothing, and starts no Ray.
    assert ray.is_initialized()


def test_an_actor_loads_no_jax(ray):
    envs = make(f"{TOYS}:Modules", EnvConfig(workers="ray", amount=4), 0)
    assert len(envs._crews) == 1  # As many share an actor where nothing else is asked for.
    (row,) = steps(envs, 1)
    assert not row["log/jax"].any()
    envs.close()


def test_one_that_crashes_leaves_its_neighbours_and_its_actor_alone(ray, tmp_path, capfd):
    envs = faulty(2, 2, workers="ray", fault="raise", at=2, once=str(tmp_path / "done"))
    before = pid(ray, envs._crews[0].worker)
    rows = steps(envs, 5)
    np.testing.assert_array_equal(column(rows, "vector")[:, :, 0].T, [[0, 1, 1, 0, 1], range(5)])
    np.testing.assert_array_equal(column(rows, "is_last").T, [[0, 0, 1, 0, 0], [0] * 5])
    assert pid(ray, envs._crews[0].worker) == before
    printed = capfd.readouterr().err
    assert 'raise RuntimeError("the motor burnt out")' in printed
    assert "warning: environment 0 crashed (RuntimeError: the motor burnt out)" in printed
    envs.close()


@pytest.mark.parametrize("how", ["by Ray", "by the system"])
def test_a_killed_actor_closes_all_of_its_episodes_and_no_others(how, ray, capfd):
    envs, calm = faulty(3, 2, workers="ray"), faulty(3, 2, workers="none")
    steps(envs, 3), steps(calm, 3)
    worker = envs._crews[0].worker
    if how == "by Ray":
        ray.kill(worker._actor)
    else:
        os.kill(pid(ray, worker), 9)
    rows, expected = steps(envs, 3), steps(calm, 3)
    np.testing.assert_array_equal(column(rows, "is_last"), [[1, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(column(rows, "is_first"), [[0, 0, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(column(rows, "vector")[:, 2], column(expected, "vector")[:, 2])
    assert column(rows, "vector")[0, 0, 0] == 2 and not column(rows, "is_terminal").any()
    lines = [x for x in capfd.readouterr().err.splitlines() if x.startswith("warning: env")]
    assert len(lines) == 1
    assert lines[0].startswith("warning: environments 0 to 1 crashed (its Ray actor is gone: ")
    envs.close()


def test_an_actor_in_which_one_hangs_is_ended(ray, tmp_path, capfd):
    envs = faulty(2, 2, workers="ray", fault="hang", at=2, once=str(tmp_path / "done"))
    rows = steps(envs, 2)
    hung = envs._crews[0].worker
    process = pid(ray, hung)
    hung._timeout = 0.5  # Of this step; what is built anew has as long as ever.
    rows += steps(envs, 3)
    np.testing.assert_array_equal(column(rows, "vector")[:, :, 0].T, [[0, 1, 1, 0, 1]] * 2)
    wait_until_gone(process)
    assert "(no answer for 0.5 s, its env.timeout)" in capfd.readouterr().err
    envs.close()


def test_waiting_for_an_actor_is_given_up_where_the_run_is_told_to_stop(ray, tmp_path):
    envs = faulty(2, 2, workers="ray", fault="hang", at=1, once=str(tmp_path / "done"))
    steps(envs, 1)
    with pytest.raises(Stopped), stopped_by((tmp_path / "done").exists):
        steps(envs, 1)
    process = envs._crews[0].worker._actor
    envs.close()
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(process.run.remote("close", ()))


def test_mistakes_are_the_users_to_mend(ray, capfd):
    with pytest.raises(UserError, match="could not be built: RuntimeError: the maze has no exit"):
        faulty(2, 2, workers="ray", fault="build")
    assert 'raise RuntimeError("the maze has no exit")' in capfd.readouterr().err
    envs = faulty(2, 2, workers="ray", fault="nan", at=1)
    with pytest.raises(UserError, match="observation 'vector' holds nan"):
        steps(envs, 3)
    envs.close()
    with pytest.raises(UserError, match="top of a module, or use --env.workers none"):
        make(lambda: Faulty(), EnvConfig(workers="ray"), 0)
    envs = make(Faulty, EnvConfig(workers="ray"), 0)  # This one has a name.
    assert envs.num_envs == 1
    envs.close()


def test_sixty_four_environments(ray):
    config = EnvConfig(workers="ray", amount=64, per_worker=32, kwargs={"end": 2})
    local = make(f"{TOYS}:Counter", EnvConfig(workers="none", kwargs={"end": 2}), 1, num_envs=64)
    envs = make(f"{TOYS}:Counter", config, 1)
    check_equal(steps(envs, 4), steps(local, 4))
    envs.close()


def marked(mark):
    """Processes, with their command, whose environment holds a variable of this value."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:  # It has ended, or is not ours.
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("end", ["of its own", "by SIGTERM", "by SIGTERM to all", "by SIGKILL"])
def test_a_run_leaves_nothing_of_its_ray_behind(end, tmp_path):
    mark = uuid.uuid4().hex
    frames = 100 if end == "of its own" else 10**8
    words = f"-m tests.fake_agent train --logdir {tmp_path / 'run'} --run.frames {frames} "
    words += "--env.workers ray --env.amount 3 --env.per_worker 2 --run.eval_every 0"
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    run = subprocess.Popen(
        [sys.executable, *words.split()],
        env=variables | {"PYTHONPATH": ROOT, "MARK": mark},
        start_new_session=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while end != "of its own" and not metrics.exists():
        assert run.poll() is None
        time.sleep(0.2)
    if end != "of its own":
        assert any(b"raylet" in command for command in marked(mark).values())
        name = signal.SIGKILL if end == "by SIGKILL" else signal.SIGTERM
        (os.killpg if end == "by SIGTERM to all" else os.kill)(run.pid, name)
    code = run.wait(timeout=40)
    # Where Ray's own processes are told to end too, Ray ends ours once it has missed them.
    codes = {"of its own": 0, "by SIGTERM": os.EX_TEMPFAIL, "by SIGTERM to all": 1}
    assert code == codes.get(end, -signal.SIGKILL)
    if end.startswith("by SIGTERM"):
        assert any((tmp_path / "run" / "checkpoints").iterdir())
    while left := marked(mark):
        print(left)
        time.sleep(0.5)


NODE_DIES = """
import numpy as np, ray
from ray.cluster_utils import Cluster
from common.envs import EnvConfig, make

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
config = EnvConfig(workers="ray", amount=8, per_worker=2)
envs = make("tests.envs.toys:Faulty", config, 0)
step = lambda: envs.step(np.zeros((8, 1)))
step(), step()
where = lambda worker: ray.get(worker._actor.__ray_call__.remote(
    lambda _: ray.get_runtime_context().get_node_id()))
nodes = np.repeat([where(crew.worker) for crew in envs._crews], 2)
lost = nodes == other.node_id
cluster.remove_node(other, allow_graceful=False)
assert lost.any() and not lost.all(), nodes
ended, steps = np.zeros(8, int), 1
while steps < 1000 and (ended[lost] == 0).any():
    row, steps = step(), steps + 1
    ended += row["is_last"]
    np.testing.assert_array_equal(row["vector"][~lost, 0], steps)
row = step()
assert row["is_first"][lost].any() and not row["is_last"].any()
np.testing.assert_array_equal(ended, lost)
assert other.node_id not in [where(crew.worker) for crew in envs._crews]
envs.close()
print("alive")
"""


@pytest.mark.slow
def test_environments_of_a_node_that_dies_start_anew_on_another():
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", NODE_DIES], env=variables | {"PYTHONPATH": ROOT}, text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.stdout.split()[-1:] == ["alive"], done.stderr
