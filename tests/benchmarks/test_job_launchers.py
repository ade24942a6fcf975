"""What launches jobs: a machine divided into slots, Slurm by submitit, and Ray's options."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from benchmarks.__main__ import main
from benchmarks.jobs import local, ray_cluster, slurm, states, watch
from benchmarks.jobs import record as records
from common import cluster
from common.errors import UserError
from tests.benchmarks.scripted import FINISH, scripted

DEADLINE = 600
ROOT = str(pathlib.Path(__file__).resolve().parents[2])
WAIT_FOR_STOP = """
trap 'echo saved; exit 0' TERM
echo working
while true; do sleep 0.05; done
"""


def slots(count=1):
    """Slots on the cores of this process."""
    return local.make_slots(count, None, [], sorted(os.sched_getaffinity(0)))


def wait_for(condition):
    """Waits until something is so."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def printed(plan, job, word):
    """Whether a job has printed a line."""
    return plan.log(job).exists() and word in plan.log(job).read_text().splitlines()


def test_a_machine_without_gpus_is_divided_by_its_cores():
    found = local.make_slots(2, None, [], [4, 5, 6, 7, 9])
    assert [slot.cores for slot in found] == [{4, 5}, {6, 7}]
    assert all(not slot.environment for slot in found)
    assert [slot.cores for slot in local.make_slots(3, None, [], [0, 1])] == [{0}, {1}, {0}]
    with pytest.raises(UserError, match="2 jobs of 3 cores need 6 cores; this machine has 5"):
        local.make_slots(2, 3, [], range(5))


def test_gpus_are_shared_by_several_jobs():
    found = local.make_slots(2, 1, ["0", "3"], range(8))
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found] == ["0", "3", "0", "3"]
    assert {slot.environment["XLA_PYTHON_CLIENT_PREALLOCATE"] for slot in found} == {"false"}
    assert [slot.cores for slot in found] == [{0}, {1}, {2}, {3}]
    alone = local.make_slots(1, None, ["0", "1"], range(8))
    assert [slot.environment for slot in alone] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    assert [len(slot.cores) for slot in alone] == [4, 4]


def test_gpus_are_those_that_may_be_seen(tmp_path):
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert local.gpus({}, tmp_path) == ["0", "1"]
    assert local.gpus({"CUDA_VISIBLE_DEVICES": "3, 5"}, tmp_path) == ["3", "5"]
    assert local.gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert local.gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == []
    assert local.gpus({"JAX_PLATFORMS": "cpu"}, tmp_path) == []


LAUNCH = """
import os, pathlib, sys
from benchmarks.jobs import local
from benchmarks.jobs import plan as plans
from tests.benchmarks.scripted import ScriptedPlan

plan = ScriptedPlan(**vars(plans.read(pathlib.Path(sys.argv[1]))))
local.launch(plan, plan.jobs, local.make_slots(2, None, [], sorted(os.sched_getaffinity(0))), 0)
"""
WAIT_FOR_WORD = """
echo working
while ! test -e "$(dirname "$0")/go"; do sleep 0.05; done
"""


def test_runs_of_a_launcher_that_was_killed_are_counted(tmp_path):
    """Of four jobs two go on without their launcher: a new one of two slots begins none."""
    plan = scripted(tmp_path, WAIT_FOR_WORD + FINISH, games="abcd")
    words = [sys.executable, "-u", "-c", LAUNCH, str(tmp_path)]
    here = {"env": {**os.environ, "PYTHONPATH": ROOT}, "text": True, "stdout": subprocess.PIPE}
    first = subprocess.Popen(words, **here)
    wait_for(lambda: sum(printed(plan, job, "working") for job in plan.jobs) == 2)
    first.kill()
    first.communicate()
    files = [(plan.record(job), plan.log(job)) for job in plan.jobs]
    assert records.orphans(files) == 2
    again = subprocess.Popen(words, **here)
    said = "2 runs of a launcher that was killed go on; waiting\n"
    assert said in iter(again.stdout.readline, "")
    assert sum(printed(plan, job, "working") for job in plan.jobs) == 2
    (tmp_path / "go").touch()
    again.communicate(timeout=DEADLINE)
    assert all(states.finished(plan, job) for job in plan.jobs)
    assert records.orphans(files) == 0


def test_local_does_all_jobs_on_their_own_cores(tmp_path, capsys):
    plan = scripted(tmp_path, f"taskset -cp $$; {FINISH}", games="abcde")
    cores = sorted(os.sched_getaffinity(0))
    places = [local.Slot(frozenset({core}), {}) for core in cores[:2]]
    assert local.launch(plan, plan.jobs, places, retries=0)
    assert all(states.finished(plan, job) for job in plan.jobs)
    for job in plan.jobs:
        used = plan.log(job).read_text().split("affinity list: ")[1].split()[0]
        assert int(used) in cores[:2]
    assert os.sched_getaffinity(0) == set(cores)
    out = capsys.readouterr().out
    for job in plan.jobs:
        assert f"started: {job}, attempt 1" in out and f"done: {job}" in out


def test_local_reports_failures_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(watch, "SUMMARY_EVERY", 0)
    plan = scripted(tmp_path, f'[ "$2" = b ] && echo no luck && exit 1; {FINISH}')
    assert local.launch(plan, plan.jobs, slots(), retries=1)
    out = capsys.readouterr().out
    assert "failed: b seed 0, exit code 1; trying again" in out
    assert "failed: b seed 0, exit code 1, 2 failed attempt(s)" in out and "  | no luck" in out
    assert "done: c seed 0" in out and "1 failed; 200 of 300 frames" in out.splitlines()[-1]


def test_local_waits_for_what_another_process_works_on(tmp_path):
    plan = scripted(tmp_path)
    first, *others = plan.jobs
    with records.hold(plan.log(first)) as log:
        left = subprocess.Popen(["sleep", "60"], stdout=log)  # By a launcher that was killed.
    began = time.monotonic()
    threading.Timer(1.5, left.kill).start()
    assert local.launch(plan, plan.jobs, slots(2), retries=0)
    assert time.monotonic() - began > 1.4
    assert all(states.finished(plan, job) for job in (first, *others))
    left.wait()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_launcher_stops_its_jobs(name, tmp_path, capsys):
    plan = scripted(tmp_path, WAIT_FOR_STOP)
    first, second, _ = plan.jobs

    def stop():
        wait_for(lambda: all(printed(plan, job, "working") for job in (first, second)))
        os.kill(os.getpid(), name)

    thread = threading.Thread(target=stop)
    thread.start()
    assert not local.launch(plan, plan.jobs, slots(2), retries=2)
    thread.join()
    assert "stopping: the jobs write their checkpoints ..." in capsys.readouterr().out
    for job in (first, second):
        assert printed(plan, job, "saved")
        assert [a.outcome for a in records.read(plan.record(job)).attempts] == ["stopped"]
    assert not plan.log(plan.jobs[2]).exists()


def test_submitit_and_ray_are_asked_for_where_missing(tmp_path, monkeypatch):
    plan = scripted(tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'world-model-agents\[cluster\]'"):
        slurm.launch(plan, plan.jobs, slurm.Request(), 0)
    with pytest.raises(UserError, match=r"pip install 'world-model-agents\[cluster\]'"):
        ray_cluster.launch(plan, plan.jobs, ray_cluster.Request(), 0)


class FakeRay(types.ModuleType):
    """Notes how Ray is started."""

    def init(self, **options):
        self.options = options


VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS",
             "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")  # fmt: skip


@pytest.mark.parametrize("mine", [{}, {"RAY_AUTH_TOKEN_PATH": "x"}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_ray_of_our_own_keeps_to_this_machine(mine, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ) | mine)
    for name in set(VARIABLES) - set(mine):
        os.environ.pop(name, None)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    real = __import__

    def find(name, *rest):
        if name == "ray":  # As late as the real one reads them.
            assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
            assert os.environ["RAY_AUTH_MODE"] == mine.get("RAY_AUTH_MODE", "token")
            return FakeRay("ray")
        return real(name, *rest)

    monkeypatch.setattr("builtins.__import__", find)
    assert cluster.connect("--launcher ray", []).options["include_dashboard"] is False
    assert len(os.environ.get("RAY_AUTH_TOKEN", "")) == (0 if "RAY_AUTH_TOKEN_PATH" in mine else 64)


LISTENS = """
import pathlib, sys
from common import cluster

def listening():
    found = set()
    for name in ("tcp", "tcp6"):
        for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.add(words[1].partition(":")[0])
    return found

before = listening()
ray = cluster.connect("--launcher ray", [])
assert ray.get(ray.remote(lambda: 3).remote()) == 3
print(*sorted(listening() - before))
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.readline()
ray.shutdown()
"""


@pytest.mark.slow
def test_a_real_ray_listens_on_the_loopback_interface_and_asks_for_a_token():
    ray = pytest.importorskip("ray")
    variables = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENS], env=variables | {"PYTHONPATH": ROOT}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    addresses, gcs = (process.stdout.readline().split() for _ in range(2))
    # As /proc writes 127.0.0.1 and ::1.
    assert set(addresses) <= {"0100007F", "00000000000000000000000001000000"}
    code = f"import ray; ray.init(address={gcs[0]!r}); print('in')"
    without = variables | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}
    stranger = subprocess.run(
        [sys.executable, "-c", code], env=without, text=True, capture_output=True, timeout=DEADLINE
    )
    process.communicate("\n")
    assert ray and "in" not in stranger.stdout.split() and stranger.returncode


def test_a_ray_cluster_that_is_gone_is_named(tmp_path, monkeypatch):
    plan = scripted(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="RAY_ADDRESS=127.0.0.1:1: .*refused"):
        ray_cluster.launch(plan, plan.jobs, ray_cluster.Request(), 0)


def test_a_slurm_command_without_slurm_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = "dmc run --games walker_walk --seeds 1 --launcher slurm".split()
    assert main([*words, "--logdir", str(tmp_path / "runs")]) == 2
    assert 'Could not detect "srun"' in capsys.readouterr().err


def fake_slurm(folder: pathlib.Path) -> None:
    """Writes the commands of a Slurm whose queue takes an array and keeps it."""
    folder.mkdir()
    scripts = {
        "sbatch": f'cp "$1" {folder}/submitted.sh; echo "Submitted batch job 17"',
        "squeue": f"cat {folder}/queue",
        "srun": "exit 1",
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").write_text("")


def test_slurm_gets_an_array_once(tmp_path, monkeypatch, capsys):
    tools = tmp_path / "tools"
    fake_slurm(tools)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    logdir = tmp_path / "runs"
    words = "dmc run --games walker_walk walker_run cup_catch --seeds 1 --launcher slurm".split()
    words += ["--partition", "long", "--time", "90", "--gpus", "2", "--cores", "6", "--jobs", "2"]
    words += ["--logdir", str(logdir)]
    assert main(words) == 0
    script = (tools / "submitted.sh").read_text().splitlines()
    for line in (
        *("array=0-2%2", "partition=long", "time=90", "gpus-per-node=2", "cpus-per-task=6"),
        *("requeue", "signal=USR2@120", "open-mode=append"),
    ):
        assert f"#SBATCH --{line}" in script
    assert "submitted as 17_0 and following" in capsys.readouterr().out
    (tools / "submitted.sh").unlink()
    (tools / "queue").write_text("17_0\n17_1\n17_2\n3\n")
    assert main(words) == 0
    assert "3 jobs are in the queue; submitting 0" in capsys.readouterr().out
    (tools / "queue").write_text("17_1\n3\n")  # Two are through, and not complete.
    assert main(words) == 0
    assert "1 jobs are in the queue; submitting 2" in capsys.readouterr().out
    assert "#SBATCH --array=0-1%2" in (tools / "submitted.sh").read_text().splitlines()
    (tools / "sbatch").write_text("#!/bin/sh\necho 'error: invalid partition' >&2; exit 1\n")
    (tools / "queue").write_text("")
    assert main(words) == 2
    assert "Slurm refused the jobs" in capsys.readouterr().err


def test_slurm_takes_a_job_back_and_finishes_it_later(tmp_path):
    """A controller of submitit on this machine repeats the task as Slurm would."""
    script = f"[ -e $1/begun ] && {{ {FINISH} exit 0; }}; mkdir -p $1; touch $1/begun; "
    plan = scripted(tmp_path, script + WAIT_FOR_STOP, games="a")
    job = plan.jobs[0]
    (submitted,) = slurm.launch(plan, plan.jobs, slurm.Request(gpus=0), 0, cluster="local")
    wait_for(lambda: printed(plan, job, "working"))
    assert slurm.launch(plan, plan.jobs, slurm.Request(gpus=0), 0, cluster="local") == []
    wait_for(lambda: records.read(plan.record(job)).attempts[0].pid)  # Written after its start.
    run = records.read(plan.record(job)).attempts[0].pid
    task = pathlib.Path(f"/proc/{run}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(task), signal.SIGUSR2)
    wait_for(lambda: states.finished(plan, job))
    assert printed(plan, job, "saved")
    wait_for(lambda: not records.held(plan.log(job)))
    outcomes = [one.outcome for one in records.read(plan.record(job)).attempts]
    assert outcomes == ["stopped", "done"]
    assert submitted.result() == "done"


def test_a_task_waits_for_slurm_where_its_run_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "KILL_SECONDS", 0.5)
    script = f"[ -e $1/begun ] && {{ {FINISH} exit 0; }}; mkdir -p $1; touch $1/begun"
    plan = scripted(tmp_path, script, games="a")
    began = time.monotonic()
    assert slurm.Task(plan, plan.jobs[0], retries=0)() == "done"
    assert time.monotonic() - began > 0.5
