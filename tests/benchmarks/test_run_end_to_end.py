"""A whole benchmark of a debug agent: two tasks, two seeds, with what goes wrong in practice."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.jobs import plan as plans
from benchmarks.jobs import record as records
from benchmarks.jobs import states
from benchmarks.jobs.plan import Job, Plan
from common.logging.jsonl import read_jsonl
from common.run import checkpoint

DEADLINE = 800
SUITE = "dmc_proprio"
GAMES = ("cartpole_balance", "pendulum_swingup")
WORDS = [*f"--configs {SUITE} debug --seeds 2 --retries 1 --games".split(), *GAMES]
OPTIONS = "-- --run.frames 202 --run.random_episodes 0 --run.pretrain 1 --run.video false".split()
BROKEN = "cartpole_balance", 1
"""Game and seed of the job that fails until its folder is mended."""


def start(logdir: pathlib.Path, *words: str) -> subprocess.Popen[str]:
    """Starts the run command."""
    base = [sys.executable, "-m", "benchmarks", SUITE, "run", "--logdir", str(logdir)]
    return subprocess.Popen(
        [*base, *WORDS, *words, *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"},
    )


def finish(launcher: subprocess.Popen[str], code: int) -> str:
    """Waits for the end of a launcher; returns what it printed."""
    out, _ = launcher.communicate(timeout=DEADLINE)
    assert launcher.returncode == code, out
    return out


def wait_for(condition, launcher):
    """Waits until something is so while a launcher works."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert launcher.poll() is None, launcher.communicate()[0]
        assert time.monotonic() < end, "the launcher got nowhere"
        time.sleep(0.05)


def sabotage(logdir: pathlib.Path) -> pathlib.Path:
    """Leaves a link to nothing where one job wants to make a folder; returns it."""
    game, seed = BROKEN
    folder = logdir / "dreamer" / game / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "replay").symlink_to(folder / "nothing")
    return folder / "replay"


def job_of(plan: Plan, game: str, seed: int) -> Job:
    """Finds a job."""
    return next(job for job in plan.jobs if (job.game, job.seed) == (game, seed))


def training(plan: Plan, job: Job) -> bool:
    """Whether a run has got as far as to write its folder."""
    return (plan.folder(job) / "config.yaml").exists()


def kill_when_training(logdir: pathlib.Path, game: str, launcher) -> Job:
    """Kills one run in its middle, as a machine out of memory would; returns its job."""
    wait_for((logdir / plans.JOBS).exists, launcher)
    plan = plans.read(logdir)
    job = job_of(plan, game, 0)
    wait_for(lambda: training(plan, job), launcher)
    os.kill(process_of(plan, job), signal.SIGKILL)
    return job


def outcomes(plan: Plan, job: Job) -> list[str]:
    """How the attempts of a job ended."""
    return [one.outcome for one in records.read(plan.record(job)).attempts]


def process_of(plan: Plan, job: Job) -> int:
    """The process of the attempt under way; 0 without one."""
    last = records.read(plan.record(job)).attempts[-1:]
    return last[0].pid if last and not last[0].outcome else 0


def parent(pid: int) -> int:
    """The process that started another one."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def check_failure(plan: Plan, out: str) -> None:
    """One job was tried twice and reported with its last lines."""
    job = job_of(plan, *BROKEN)
    assert outcomes(plan, job) == ["failed", "failed"]
    assert f"failed: {job}, exit code 1; trying again" in out
    assert f"failed: {job}, exit code 1, 2 failed attempt(s)" in out and "  | FileExists" in out


def check_complete(logdir: pathlib.Path) -> None:
    """All run folders are complete."""
    plan = plans.read(logdir)
    assert len(plan.jobs) == 4
    for job in plan.jobs:
        folder = plan.folder(job)
        assert states.progress(plan, job).state == "done"
        assert checkpoint.metadata(folder / "checkpoints")["finished_frames"] == 202
        assert (folder / "export.npz").exists() and (folder / "report.html").exists()
        assert f"task: {job.task}\nseed: {job.seed}\n" in (folder / "config.yaml").read_text()


def check_scored(logdir: pathlib.Path) -> None:
    """The scores are those of the runs' last evaluations, and the page shows them."""
    plan = plans.read(logdir)
    table = logdir / "scores.json"
    out = ask("score", "--runs", str(logdir), "--json", str(table))
    assert "(2 of 20 tasks)" in out and "protocol: 0.000202M frames, state, evaluation" in out
    (agent,) = json.loads(table.read_text())["agents"]
    assert agent["name"] == "dreamer" and len(agent["missing"]) == 18
    rows = {row["task"]: row for row in json.loads(table.read_text())["tasks"]}
    for game in GAMES:
        finals = [last_return(plan.folder(job)) for job in plan.jobs if job.game == game]
        assert rows[game]["seeds"] == 2
        assert rows[game]["return"] == pytest.approx(sum(finals) / 2)
    ask("report", "--runs", str(logdir), "--out", str(logdir / "page"), "--bootstrap", "100")
    page = (logdir / "page" / "report.html").read_text()
    assert all(game in page for game in GAMES) and "2 of 20 tasks" in page


def last_return(folder: pathlib.Path) -> float:
    """The mean return of a run's last evaluation."""
    rows = read_jsonl(folder / "metrics.jsonl")
    return [row["eval/return_mean"] for row in rows if "eval/return_mean" in row][-1]


def ask(*words: str) -> str:
    """What a command of the suite prints."""
    command = [sys.executable, "-m", "benchmarks", SUITE, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def status(logdir: pathlib.Path) -> str:
    """What the status command prints."""
    return ask("status", "--logdir", str(logdir))


@pytest.mark.timeout(1800)
def test_local(tmp_path):
    """One job is killed, one fails, the launcher is stopped; then it goes on."""
    obstacle = sabotage(tmp_path)
    launcher = start(tmp_path, "--jobs", "2")
    killed = kill_when_training(tmp_path, "cartpole_balance", launcher)
    plan = plans.read(tmp_path)
    last = job_of(plan, "pendulum_swingup", 0)
    again = ["failed", "done"]
    wait_for(lambda: training(plan, last) and outcomes(plan, killed) == again, launcher)
    assert any(word in status(tmp_path) for word in (" running,", " done,"))
    launcher.send_signal(signal.SIGTERM)
    out = finish(launcher, 130)
    assert out.splitlines()[-1] == "stopped; the same command goes on from here"
    assert not any(records.held(plan.log(job)) for job in plan.jobs)
    check_failure(plan, out)
    shown = status(tmp_path)
    assert "1 failed" in shown and "  | FileExists" in shown and "waiting" in shown

    obstacle.unlink()
    launcher = start(tmp_path, "--jobs", "2")
    wait_for(lambda: process_of(plan, job_of(plan, "pendulum_swingup", 1)), launcher)
    launcher.kill()  # What it started goes on, and the next launcher waits for it.
    finish(launcher, -signal.SIGKILL)
    finish(start(tmp_path, "--jobs", "2"), 0)
    check_complete(tmp_path)
    assert "4 jobs: 4 done; 808 of 808 frames (100.0%)" in status(tmp_path)
    out = finish(start(tmp_path, "--jobs", "2"), 0)
    assert "4 jobs in" in out and "started:" not in out
    check_complete(tmp_path)
    check_scored(tmp_path)


@pytest.mark.slow  # Real Ray starts in every suite: tests/benchmarks/test_job_launchers.py.
@pytest.mark.timeout(1800)
def test_ray(tmp_path, monkeypatch):
    """The same on a cluster of two CPUs."""
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = ray.init("local", num_cpus=2, object_store_memory=80 << 20, include_dashboard=False)
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address_info["gcs_address"])
        obstacle = sabotage(tmp_path)
        launcher = start(tmp_path, "--launcher", "ray", "--cores", "3")
        assert "error: a job asks for 3 CPUs; the Ray cluster has 2" in finish(launcher, 2)
        launcher = start(tmp_path, "--launcher", "ray")
        killed = kill_when_training(tmp_path, "cartpole_balance", launcher)
        plan = plans.read(tmp_path)
        last = job_of(plan, "pendulum_swingup", 0)
        wait_for(lambda: training(plan, last), launcher)
        launcher.send_signal(signal.SIGTERM)
        out = finish(launcher, 130)
        assert outcomes(plan, killed) == ["failed", "done"]
        assert not any(records.held(plan.log(job)) for job in plan.jobs)
        check_failure(plan, out)

        obstacle.unlink()
        launcher = start(tmp_path, "--launcher", "ray")
        job = job_of(plan, "pendulum_swingup", 1)
        wait_for(lambda: process_of(plan, job), launcher)
        worker = parent(process_of(plan, job))  # The cluster's process; the run outlives it.
        os.kill(worker, signal.SIGKILL)
        out = finish(launcher, 0)
        assert f"lost: {job}, WorkerCrashedError; trying again" in out
        assert outcomes(plan, job)[-1] == "lost"
        assert "4 jobs: 4 done; 808 of 808 frames (100.0%)" in out
        check_complete(tmp_path)
        check_scored(tmp_path)
    finally:
        ray.shutdown()
