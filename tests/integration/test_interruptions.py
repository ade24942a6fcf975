"""Runs that are killed or told to stop, as processes of their own, and the command again."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from common.errors import STOPPED
from common.logging import read_jsonl
from common.run import folder as run_folder
from tests.full_disk import fill, small_disk
from tests.run.test_train import counters, replayed

DEADLINE = 600
ROWS = 1_000_000


def command(logdir, *words, heard=True):
    """Starts a run of the tiny agent that would last for ever.

    What nobody reads must go nowhere: a full pipe would stop the run.
    """
    base = "-m tests.fake_agent train --run.eval_every 0 --run.frames 100000000".split()
    base += ["--replay.capacity", str(ROWS)]
    return subprocess.Popen(
        [sys.executable, *base, "--logdir", str(logdir), *words],
        stdout=subprocess.PIPE if heard else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def wait_for(condition, process):
    """Waits until a run got somewhere."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the run got nowhere"
        time.sleep(0.05)


def lines(logdir):
    """Lines of metrics so far."""
    path = logdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def finish(logdir, more=100):
    """Continues a run for a while, by the same command; returns what it printed."""
    done = counters(logdir)["frames"] if (logdir / "checkpoints").exists() else 0
    process = command(logdir, "--run.frames", str(done + more))
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    return done, out


def check_consistent(logdir, frames):
    """Counters, replay and scores of the run agree."""
    found = counters(logdir)
    assert found["frames"] == found["agent_steps"] == found["finished_frames"] == frames
    assert found["updates"] == 3 + (frames - 1 - 20) // 2
    first = replayed(logdir)["is_first"]
    assert len(first) < ROWS / 2  # Nothing was dropped for age.
    assert (~first).sum() == frames
    ends = [score["frames"] for score in read_jsonl(logdir / "scores.jsonl")]
    assert ends == sorted(set(ends)) and ends[-1] <= frames
    assert (np.diff(ends) >= 5).all()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_cleanly_and_the_run_goes_on(name, tmp_path):
    process = command(tmp_path)
    wait_for(lambda: lines(tmp_path) > 3, process)
    process.send_signal(name)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (STOPPED, "")
    frames = counters(tmp_path)["frames"]
    last = out.splitlines()[-1]
    assert last == f"stopped at frame {frames:,}; the same command goes on from here"
    done, out = finish(tmp_path)
    assert done == frames and f"resumed at frame {frames:,} after" in out
    check_consistent(tmp_path, frames + 100)


def test_a_second_process_is_turned_away(tmp_path):
    first = command(tmp_path, heard=False)
    wait_for(lambda: lines(tmp_path) > 3, first)
    second = command(tmp_path)
    out, err = second.communicate(timeout=DEADLINE)
    assert second.returncode == 2
    assert err == (
        f"error: another process trains in {tmp_path}; wait for it, or choose another --logdir\n"
    )
    first.send_signal(signal.SIGTERM)
    assert first.wait(DEADLINE) == STOPPED


@pytest.mark.parametrize("checkpoint_every", [1, 1000])
def test_kill_9_and_again(checkpoint_every, tmp_path):
    """After a checkpoint the run continues from it; before the first it starts anew."""
    process = command(tmp_path, "--run.checkpoint_every", str(checkpoint_every), heard=False)
    wait_for(lambda: lines(tmp_path) > 3, process)
    if checkpoint_every == 1:
        wait_for(lambda: list((tmp_path / "checkpoints").glob("0*")), process)
        seen = lines(tmp_path)
        wait_for(lambda: lines(tmp_path) > seen, process)  # Beyond the checkpoint.
    else:  # Rows on disk that no checkpoint knows.
        wait_for(lambda: list((tmp_path / "replay").glob("*.npz")), process)
    process.kill()
    process.communicate()
    done, out = finish(tmp_path)
    assert ("resumed at" in out) == (checkpoint_every == 1) == (done > 0)
    check_consistent(tmp_path, done + 100)


def test_a_full_disk_ends_a_run_that_goes_on_when_there_is_room(tmp_path):
    """Instead of blocking it for ever; all that was there is kept."""
    with small_disk(tmp_path / "disk", "8m"):
        logdir = tmp_path / "disk" / "run"
        process = command(logdir, "--run.checkpoint_every", "1")
        wait_for(lambda: list((logdir / "checkpoints").glob("0*")), process)
        ballast = fill(tmp_path / "disk")
        _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 2 and "Traceback" not in err
        last = err.splitlines()[-1]
        assert last.startswith(f"error: cannot write {logdir}") or "checkpoint" in last, err
        assert last.endswith("No space left on device; free space on the disk, or choose another "
                             "folder")  # fmt: skip
        left = [path for path in logdir.rglob(".*") if path.is_file()]
        assert not left
        ballast.unlink()
        done, out = finish(logdir)
        assert "resumed at" in out
        check_consistent(logdir, done + 100)


def test_a_file_system_without_locks_trains_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(run_folder.fcntl, "flock", refuse)
    lock = run_folder.Lock(tmp_path)
    lock.acquire()
    lock.release()
