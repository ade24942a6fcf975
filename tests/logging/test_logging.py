"""What the sinks write can be read back."""

from __future__ import annotations

import io
import json
import math
import struct
import threading

import imageio.v3
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from common.files import WriteError
from common.logging import (
    JsonlSink,
    Logger,
    TensorBoardSink,
    TerminalSink,
    VideoSink,
    read_jsonl,
)
from common.logging.terminal import format_seconds
from tests.full_disk import full_disk


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_events(directory):
    """Parses the records of TensorBoard's files: length, checksum, bytes, checksum."""
    for path in directory.glob("events.*"):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def make_video(frames=5, channels=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (frames, 64, 48, channels), np.uint8)


def test_metrics_are_lines_of_numbers(tmp_path):
    with_nan = {"a/loss": jnp.float32(0.5), "b/x": np.float64("nan"), "b/y": -np.inf, "b/n": 3}
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    sink.scalars(np.int64(40), with_nan)
    expected = {"frames": 40, "a/loss": 0.5, "b/x": None, "b/y": None, "b/n": 3.0}
    assert lines(tmp_path / "metrics.jsonl") == [expected]
    (found,) = read_jsonl(tmp_path / "metrics.jsonl")
    assert found["a/loss"] == 0.5 and math.isnan(found["b/x"]) and math.isnan(found["b/y"])


def test_a_resumed_run_appends_after_the_last_whole_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"frames": 1, "x": 1.0}\n{"frames": 2, "x')
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    sink.scalars(2, {"x": 5})
    assert lines(path) == [{"frames": 1, "x": 1.0}, {"frames": 2, "x": 5.0}]


def test_readers_skip_what_is_no_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"frames": 1}\nnonsense\n[1]\n{"x": 1}\n{"frames": 2}\n{"frames"')
    with pytest.warns(UserWarning, match=f"2 damaged lines of {path} left out") as caught:
        assert [record["frames"] for record in read_jsonl(path)] == [1, 2]
    assert len(caught) == 1  # Another clock's line and one in the making are no damage.


DAMAGED = [
    b"\xff\xfe\x00", b"\x00" * 40, b"", b"null", b"3", b'"frames"', b"[" * 100_000,
    b'{"frames": null}', b'{"frames": "7"}', b'{"frames": [7]}', b'{"frames": NaN}',
    b'{"frames": true}', b'{"frames": Infinity}', b'{"frames": 1' + b"0" * 400 + b"}",
    b'{"frames": ' + b"9" * 5000 + b"}", b'{"frames": 7, "x": "1"}', b'{"frames": 7, "x": {}}',
    '{"frames": 7}'.encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED, ids=lambda line: repr(line[:20]))
def test_a_damaged_line_costs_only_itself(tmp_path, line):
    """A run goes on, and whoever reads does too; one warning counts what is left out."""
    path = tmp_path / "metrics.jsonl"
    good = [b'{"frames": 5, "time/elapsed_s": 3.0}\n', b'{"frames": 9}\n', b'{"frames": 20}\n']
    path.write_bytes(good[0] + line + b"\n" + good[1] + line + b"\n" + good[2])
    with pytest.warns(UserWarning, match=f"2 damaged lines of {path} left out") as caught:
        assert [record["frames"] for record in read_jsonl(path)] == [5, 9, 20]
    assert len(caught) == 1
    (tmp_path / "scores.jsonl").write_bytes(line + b"\n" + good[1])
    logger = Logger(tmp_path / "scores.jsonl", path, JsonlSink(path))
    with pytest.warns(UserWarning, match=r"damaged lines? of .* left out") as caught:
        logger.rewind(10)
    assert len(caught) == 2  # One for each file.
    logger.write(12, {})
    logger.close()
    assert path.read_bytes().startswith(good[0] + good[1] + b'{"frames": 12, "time/elapsed_s": 3.')
    assert (tmp_path / "scores.jsonl").read_bytes() == good[1]


def test_a_line_that_the_disk_cannot_take_leaves_no_half(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    sink.scalars(1, {"x": 1})
    before = path.read_bytes()
    for limit in (len(before), len(before) + 7):
        with full_disk(limit), pytest.raises(WriteError, match="cannot write .*metrics.jsonl: "):
            sink.scalars(2, {"x": 2})
        assert path.read_bytes() == before
        with full_disk(), pytest.raises(WriteError, match="cannot write .*metrics.jsonl: "):
            sink.rewind(1)
        assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    sink.scalars(2, {"x": 2})
    sink.close()
    assert [record["x"] for record in read_jsonl(path)] == [1, 2]


@pytest.mark.parametrize(
    ("last", "kept"), [(b'{"frames": 9}', [5, 9]), (b'{"frames": 9', [5]), (b'{"fra', [5])]
)
def test_a_last_line_without_its_end(tmp_path, last, kept):
    """One that is whole is ended; one that is not is cut off."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"frames": 5}\n' + last)
    assert [record["frames"] for record in read_jsonl(path)] == kept
    sink = JsonlSink(path)
    sink.rewind(10)
    sink.scalars(12, {})
    sink.close()
    assert [record["frames"] for record in read_jsonl(path)] == [*kept, 12]


def test_rewind_forgets_what_came_after(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    sinks = JsonlSink(metrics), VideoSink(tmp_path / "videos")
    logger = Logger(tmp_path / "scores.jsonl", metrics, *sinks)
    for frames in (10, 20, 30):
        logger.write(frames, {"x": frames})
        logger.score(frames, {"return": frames})
        logger.video(frames, "eval/policy", make_video())
    logger.rewind(20)
    logger.write(25, {"x": 25})
    logger.close()
    assert [line["frames"] for line in lines(tmp_path / "metrics.jsonl")] == [10, 20, 25]
    assert [line["frames"] for line in lines(tmp_path / "scores.jsonl")] == [10, 20]
    assert len(list((tmp_path / "videos").iterdir())) == 2


def test_scores_have_a_line_per_episode(tmp_path):
    logger = Logger(tmp_path / "new" / "scores.jsonl", tmp_path / "none")
    logger.score(500, {"return": 12.5, "length": 250, "log/success": 1})
    logger.close()
    expected = {"frames": 500, "return": 12.5, "length": 250, "log/success": 1}
    assert lines(tmp_path / "new" / "scores.jsonl") == [expected]


def test_elapsed_time_goes_on_over_sessions(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"frames": 1, "time/elapsed_s": 100.0}\n')
    logger = Logger(tmp_path / "scores.jsonl", metrics, JsonlSink(metrics))
    logger.write(2, {})
    logger.close()
    assert 100 <= lines(metrics)[-1]["time/elapsed_s"] < 110


def test_a_full_disk_blocks_nobody_who_writes_for_tensorboard(tmp_path):
    """It is an error at once, and the sink can still be closed."""
    threads = threading.active_count()
    sink = TensorBoardSink(tmp_path / "tensorboard")
    assert threading.active_count() == threads
    with full_disk(1000):
        with pytest.raises(WriteError, match="cannot write .*tensorboard: File too large; free"):
            for step in range(1000):
                sink.scalars(step, {f"a/{number}": 1.0 for number in range(100)})
        with pytest.raises(WriteError):
            sink.flush()
        sink.close()
    with full_disk(), pytest.raises(WriteError):
        TensorBoardSink(tmp_path / "other")
    (path,) = (tmp_path / "tensorboard").glob("events.*")
    assert path.stat().st_size <= 1000


def test_sessions_within_a_second_write_files_of_their_own(tmp_path):
    for step in range(3):
        sink = TensorBoardSink(tmp_path)
        sink.scalars(step, {"x": step})
        sink.close()
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 3
    events = [event for event in read_events(tmp_path) if event.summary.value]
    assert sorted(event.step for event in events) == [0, 1, 2]


@pytest.mark.parametrize("channels", [1, 3])
def test_tensorboard_has_scalars_and_videos(tmp_path, channels):
    sink = TensorBoardSink(tmp_path / "tensorboard")
    sink.scalars(7, {"world_model/loss": 1.5, "actor/entropy": jnp.float32(2)})
    sink.video(9, "open_loop/image", make_video(channels=channels))
    sink.close()
    values = {}
    for event in read_events(tmp_path / "tensorboard"):
        for value in event.summary.value:
            values[value.tag] = (event.step, value)
    step, value = values["world_model/loss"]
    assert (step, value.simple_value) == (7, 1.5)
    assert values["actor/entropy"][1].simple_value == 2
    step, value = values["open_loop/image"]
    assert (step, value.image.height, value.image.width) == (9, 64, 48)
    frames = imageio.v3.imread(value.image.encoded_image_string, extension=".gif", index=None)
    assert frames.shape == (5, 64, 48, 3)


def terminal(total, **options):
    output = io.StringIO()
    return TerminalSink(total, Console(file=output, width=40, **options)), output


def test_a_line_per_log_interval(tmp_path):
    sink, output = terminal(10_000)
    sink.scalars(900, {"episode/return": 12.345, "episode/length": 500})
    assert output.getvalue() == ""
    sink.scalars(1000, {"time/frames_per_s": 100.0, "time/updates_per_s": 20.5})
    line = output.getvalue()
    assert line.count("\n") == 1 and "\x1b" not in line
    expected = "frames 1,000 (10.0%)  return 12.3  length 500  frames/s 100.0  updates/s 20.50"
    assert line.strip() == expected + "  eta 0:01:30"


def test_colours_on_a_terminal_only():
    sink, output = terminal(100, force_terminal=True, color_system="standard")
    sink.scalars(50, {"time/frames_per_s": float("nan")})
    assert "\x1b" in output.getvalue() and "?" in output.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (3725.6, "1:02:06"), (360000, "100:00:00")]
)
def test_time_left(seconds, text):
    assert format_seconds(seconds) == text
