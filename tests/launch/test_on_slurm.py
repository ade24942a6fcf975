"""Trainings as Slurm would start them, by submitit's executor of this machine."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from common.envs.config import EnvConfig
from common.errors import STOPPED, UserError
from common.launch import launch, on_slurm
from common.launch.request import Request
from common.logging import read_jsonl
from common.replay.config import ReplayConfig
from common.run.config import Settings
from tests.launch.test_on_ray import FOREVER, pids, saved, wait_for

TWO = Settings(env=EnvConfig(amount=2), replay=ReplayConfig(batch=6))


def submit(logdir: pathlib.Path, *words: str, **given: str):
    """Submits two processes of the tiny agent."""
    argv = ("--env.amount", "2", *words)
    found = Request.read("tests.fake_agent", argv, {"launcher": "slurm", **given}, logdir)
    return on_slurm.submit(found, cluster="local")


def test_to_the_end(tmp_path):
    logdir = tmp_path / "run"
    assert submit(logdir, "--run.frames", "300").results() == [0, 0]
    log = (logdir / "processes" / "0.log").read_text()
    assert "on 2 devices of 2 processes" in log and "evaluation at frame 300" in log
    assert list(read_jsonl(logdir / "scores.jsonl"))[-1]["frames"] == 300


@pytest.mark.slow  # As with Ray, and takes as long.
def test_killed_processes_start_again_and_a_stop_ends_all(tmp_path):
    logdir = tmp_path / "run"
    job = submit(logdir, *FOREVER)
    first = wait_for(lambda: saved(logdir))
    os.kill(wait_for(lambda: pids(logdir))[-1], signal.SIGKILL)
    wait_for(lambda: saved(logdir) > first + 2000)
    os.kill(pids(logdir)[0], signal.SIGTERM)
    assert job.results() == [STOPPED, STOPPED]
    assert "resumed at frame" in (logdir / "processes" / "0.log").read_text()
    assert not pids(logdir)


def test_a_mistake_is_not_tried_again(tmp_path):
    job = submit(tmp_path / "run", "--replay.batch", "3")
    assert set(job.results()) == {2}
    log = (tmp_path / "run" / "processes" / "0.log").read_text()
    assert log.count("error: replay.batch is 3, which 2 processes cannot divide") == 1


def test_the_end_of_its_time_stops_it_and_hands_it_back(tmp_path):
    logdir = tmp_path / "run"
    wanted = Request.read("tests.fake_agent", FOREVER, {"launcher": "slurm", "nodes": "1"}, logdir)
    words = "import sys; from tests.launch.test_on_slurm import one; one(sys.argv[1])"
    alone = subprocess.Popen([sys.executable, "-c", words, str(logdir)], stdout=subprocess.PIPE)
    wait_for(lambda: saved(logdir))
    alone.send_signal(signal.SIGUSR2)
    assert alone.communicate(timeout=120)[0] == b"Task\n" and not pids(logdir)
    assert "stopped at frame" in wanted.log(0).read_text()


def one(logdir: str) -> None:
    """A task as submitit runs it; asked to end, it prints what would go back to the queue."""
    wanted = Request.read(
        "tests.fake_agent", FOREVER, {"launcher": "slurm", "nodes": "1"}, pathlib.Path(logdir)
    )
    os.environ |= {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": str(os.getpid())}
    task = on_slurm.Task(wanted)

    def asked(*_: object) -> None:
        print(type(task.checkpoint().function).__name__, flush=True)
        os._exit(0)

    signal.signal(signal.SIGUSR2, asked)
    task()


def test_what_is_asked_of_slurm():
    asked = on_slurm.parameters("train", 60, 8, 4, "a100")
    assert (asked["timeout_min"], asked["cpus_per_task"], asked["gpus_per_node"]) == (60, 8, 4)
    assert asked["slurm_partition"] == "a100"
    assert not {"gpus_per_node", "slurm_partition"} & on_slurm.parameters("x", 1, 1, 0, "").keys()


def test_without_slurm(tmp_path):
    with pytest.raises(UserError, match="run this where sbatch is, or choose a --launcher"):
        launch("dreamer", [], {"launcher": "slurm"}, TWO, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_what_processes_cannot_divide_is_refused_before_any_begins(launcher, tmp_path):
    with pytest.raises(UserError, match="env.amount is 2, which 3 processes cannot divide"):
        launch("dreamer", [], {"launcher": launcher, "nodes": "3"}, TWO, tmp_path / "run")
    with pytest.raises(UserError, match="replay.batch is 6, which 4 processes cannot divide"):
        launch("dreamer", [], {"launcher": launcher, "nodes": "4"}, TWO, tmp_path / "run")
    assert not (tmp_path / "run").exists()
