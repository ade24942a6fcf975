"""Weights & Biases, by the real package without a network."""

from __future__ import annotations

import importlib.machinery
import struct
import sys
import time

import numpy as np
import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from common.errors import UserError
from common.logging.tracking import WandbSink, check_wandb

BLOCK = 1 << 15


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def open_sink(folder, **options):
    """A sink of a run folder."""
    return WandbSink(
        folder / "wandb", "project", "a run", {"agent": "fake", "run": {"x": 3}}, **options
    )


def records(path):
    """What a file of the package holds: blocks of checksum, length, kind and bytes."""
    content, position, whole = path.read_bytes(), 7, b""
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        header = content[position : position + 7]
        if len(header) < 7:
            return  # Still being written.
        _, length, kind = struct.unpack("<IHB", header)
        if position + 7 + length > len(content):
            return
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # Whole, or the last part.
            yield Record.FromString(whole)
            whole = b""


def ended(path):
    """The records of a session, as soon as another process has written the last one."""
    limit = time.monotonic() + 120
    while not (found := list(records(path))) or not found[-1].HasField("exit"):
        assert time.monotonic() < limit, "the session has no end"
        time.sleep(0.1)
    return found


def sessions(folder):
    """For each session its record of the run, and its points as dicts of JSON."""
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        found = ended(path)
        (run,) = (x.run for x in found if x.HasField("run"))
        points = [
            {"/".join(item.nested_key): item.value_json for item in x.history.item}
            for x in found
            if x.HasField("history")
        ]
        yield run, points


def test_scalars_and_videos_of_one_run_over_two_sessions(tmp_path):
    sink = open_sink(tmp_path)
    sink.rewind(-1)
    sink.scalars(10, {"eval/return_mean": np.float32(0.5), "a/b": float("nan")})
    sink.video(10, "eval/policy", np.zeros((3, 64, 64, 3), np.uint8))
    sink.flush()
    sink.close()
    sink = open_sink(tmp_path)
    sink.scalars(5, {"eval/return_mean": 2.0})  # From an older checkpoint.
    sink.close()
    (run, points), (again, more) = sessions(tmp_path)
    assert run.run_id == again.run_id == (tmp_path / "wandb" / "id.txt").read_text().strip()
    assert (run.project, run.display_name) == ("project", "a run")
    config = {item.key: item.value_json for item in run.config.update}
    assert config["agent"] == '"fake"' and config["run"] == '{"x":3}'
    assert (points[0]["frames"], float(points[0]["eval/return_mean"])) == ("10", 0.5)
    assert points[0]["a/b"] == "NaN"
    assert points[1]["frames"] == "10" and points[1]["eval/policy/_type"] == '"video-file"'
    (film,) = tmp_path.rglob("*.gif")
    assert film.read_bytes().startswith(b"GIF89a")
    assert (more[0]["frames"], more[0]["eval/return_mean"]) == ("5", "2")
    assert {path.name for path in tmp_path.iterdir()} == {"wandb"}


def test_names_of_the_environment_win_and_updates_are_a_clock(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "other")
    monkeypatch.setenv("WANDB_NAME", "mine")
    sink = open_sink(tmp_path, clock="updates")
    sink.scalars(7, {"x": 1})
    sink.close()
    ((run, points),) = sessions(tmp_path)
    assert (run.project, run.display_name, points[0]["updates"]) == ("other", "mine", "7")


def test_a_service_that_fails_is_named_once_and_ends_nothing(tmp_path, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise wandb.errors.CommError("no route\nto host")

    sink = open_sink(tmp_path)
    monkeypatch.setattr(sink._run, "log", refuse)
    for frames in (1, 2):
        sink.scalars(frames, {"x": 1})
        sink.video(frames, "y", np.zeros((3, 64, 64, 3), np.uint8))
    sink.close()
    assert capsys.readouterr().err == (
        "warning: wandb failed (no route); this session goes on without it, and the run folder "
        "has everything\n"
    )
    monkeypatch.setattr(wandb, "init", refuse)
    sink = open_sink(tmp_path)
    sink.scalars(1, {"x": 1})
    sink.close()
    assert capsys.readouterr().err.count("warning: wandb failed (no route)") == 1


def test_nobody_logged_in_is_a_mistake_of_the_user(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match="No API key configured.*run wandb login, or set WANDB_MOD"):
        open_sink(tmp_path)


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'world-model-agents\[track\]'") as error:
        check_wandb()
    assert "\n" not in str(error.value)
    monkeypatch.delitem(sys.modules, "wandb")
    (tmp_path / "wandb").mkdir()  # As a run in the working directory makes it.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    with pytest.raises(UserError, match="found only the folder"):
        check_wandb()
