"""Trainings that a real Ray starts on this machine, two processes each."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from common import cluster
from common.errors import STOPPED, UserError
from common.launch import on_ray
from common.launch.request import Request
from common.logging import read_jsonl
from common.run import checkpoint
from common.run import folder as run_folder

FOREVER = ("--run.frames", "100000000", "--run.eval_every", "0", "--run.checkpoint_every", "1")


@pytest.fixture(scope="module", autouse=True)
def _one_ray():
    """One Ray for all tests of this module: to start one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster.connected("the tests", [str(on_ray.ROOT)]):
            yield


def wanted(logdir: pathlib.Path, *words: str, **given: str) -> Request:
    """Two processes of the tiny agent."""
    argv = ("--env.amount", "2", *words)
    given = {"launcher": "ray", **given}
    return Request.read("tests.fake_agent", argv, given, logdir)


def pids(logdir: pathlib.Path) -> list[int]:
    """The train commands of a folder."""
    found = subprocess.run(["pgrep", "-f", f"logdir {logdir}"], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def wait_for(condition):
    """Waits until something is so, and returns it."""
    end = time.monotonic() + 300
    while not (found := condition()):
        assert time.monotonic() < end, "the training got nowhere"
        time.sleep(0.1)
    return found


def saved(logdir: pathlib.Path) -> int | None:
    """The newest checkpoint."""
    return checkpoint.latest(logdir / run_folder.CHECKPOINTS)


def test_to_the_end(tmp_path, capfd):
    logdir = tmp_path / "run"
    assert on_ray.train(wanted(logdir, "--run.frames", "200")) == 0
    out = capfd.readouterr().out
    assert "on 2 devices of 2 processes" in out
    assert out.count("evaluation at frame 200") == 1
    assert [x["frames"] for x in read_jsonl(logdir / "scores.jsonl")][-1] == 200
    assert not pids(logdir)


def test_a_killed_process_starts_all_of_them_again(tmp_path, capfd):
    """And the run goes on from the checkpoint; a signal then stops it, with another one."""
    logdir = tmp_path / "run"

    def disturb():
        first = wait_for(lambda: saved(logdir))
        os.kill(wait_for(lambda: pids(logdir))[-1], signal.SIGKILL)
        wait_for(lambda: saved(logdir) > first + 2000)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=disturb)
    thread.start()
    assert on_ray.train(wanted(logdir, *FOREVER)) == STOPPED
    thread.join()
    said = capfd.readouterr()
    assert "all start again" in said.err and "exit code -9" in said.err
    assert "resumed at frame" in said.out and "stopped at frame" in said.out
    assert "stopping: the training writes its checkpoint ..." in said.out
    assert not pids(logdir)


def test_processes_that_crash_while_they_stop_have_not_stopped(tmp_path, monkeypatch, capfd):
    def crash(training):
        training._stopping = True
        return [1, STOPPED]

    monkeypatch.setattr(on_ray._Training, "_attempt", crash)
    assert on_ray.train(wanted(tmp_path / "run", retries="3")) == 1
    assert "the processes ended (exit code 1, exit code 75); given up" in capfd.readouterr().err


def test_a_mistake_is_said_once_and_not_tried_again(tmp_path, capfd):
    logdir = tmp_path / "run"
    assert on_ray.train(wanted(logdir, "--replay.batch", "3")) == 2
    err = capfd.readouterr().err
    assert "error: replay.batch is 3, which 2 processes cannot divide" in err
    assert "again" not in err and not pids(logdir)


def test_a_cluster_without_room(tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "ROOM_SECONDS", 1.0)
    cores = str(1 + (os.cpu_count() or 1))
    with pytest.raises(UserError, match=f"no room for 2 process.es. of {cores} core.s.; it has"):
        on_ray.train(wanted(tmp_path / "run", cores=cores))


def test_what_fails_too_often(tmp_path, capfd):
    logdir = tmp_path / "run"
    request = wanted(logdir, retries="1")
    broken = request._replace(command=[sys.executable, "-c", "print('no luck'); exit(3)"])
    assert on_ray.train(broken) == 1
    err = capfd.readouterr().err
    assert err.count("the processes ended (exit code 3, exit code 3); all start again") == 1
    assert f"given up; see {logdir / 'processes'}" in err
