"""The report of a run: whole, self-contained, and honest about what is missing."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.logging import JsonlSink, VideoSink, video
from common.report.charts import Frame, Series, chart, nice_ticks, short, smooth
from common.report.page import write_report
from common.report.read import read_run
from common.run.sinks import open_logger

VOID = {"meta", "link", "img"}


class Page(html.parser.HTMLParser):
    """Checks that tags close, and gathers text, tags and what is linked."""

    def __init__(self, path):
        super().__init__()
        self.open, self.words, self.tags, self.links = [], [], [], []
        self.feed(path.read_text())
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def make_run(logdir, steps=40):
    logger = open_logger(logdir, JsonlSink(logdir / "metrics.jsonl"), VideoSink(logdir / "videos"))
    logger.write(0, {"random/return_mean": 42.25})
    for step in range(1, steps + 1):
        frames = step * 1000
        logger.score(frames, {"return": step * 10, "length": 500})
        logger.write(frames, {"time/frames_per_s": 85.0, "world_model/image_loss": 100 / step})
        logger.write(frames, {"actor/entropy": float("nan") if step == 3 else step})
        if step % 10 == 0:
            means = {
                "eval/return_mean": step * 10 + 5,
                "eval/return_min": step,
                "eval/return_max": 999,
            }
            logger.write(frames, means)
    blue = np.zeros((6, 32, 32, 3), np.uint8)
    blue[..., 2] = 255
    logger.video(1000, "eval/policy", blue // 2)
    logger.video(40_000, "eval/policy", blue)
    truth = np.full((2, 8, 32, 32, 3), 90, np.uint8)
    logger.video(40_000, "open_loop/image", video.open_loop_strip(truth, truth, 8))
    logger.close()
    config = "agent: dreamer\ntask: dmc_<walker>_walk\nseed: 3\nrun:\n  frames: 80000\n"
    (logdir / "config.yaml").write_text(config)
    (logdir / "versions.txt").write_text(
        "python 3.12\njax 0.11.2\ncommand dreamer train --a 'b c'\n"
    )
    return logdir


def assert_self_contained(path):
    page = Page(path)
    assert all(link.startswith("data:") for link in page.links)
    text = path.read_text()
    assert not re.search(r"url\((?!#)|@import|<script|https?://", text)
    return page


def test_a_damaged_folder_is_reported_as_far_as_it_goes(tmp_path):
    make_run(tmp_path)
    for name in ("metrics.jsonl", "scores.jsonl"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b'\xff\n{"frames": null}\n' + content)
    for config in ("run: 3", "run: [1]", "- 1", "x: 2001-99-99", "{[1]: 2}", "\0", "["):
        (tmp_path / "config.yaml").write_text(config)
        with pytest.warns(UserWarning, match="2 damaged lines of"):
            assert "42.2" in Page(write_report(tmp_path)).text


def test_the_page_shows_the_run(tmp_path):
    page = assert_self_contained(write_report(make_run(tmp_path / "run")))
    for expected in [
        "Dreamer on dmc_<walker>_walk",
        "Evaluation return at 40,000 frames 405.0 40.0 to 999.0",
        "Random policy's return 42.2",
        "Frames 40,000 of 80,000 planned",
        "Frames per second 85.0",
        "frames (simulator steps, action repeat included)",
        "training episodes their mean over 5 episodes evaluation, lowest to highest episode",
        "random policy",
        "The policy, in the latest evaluation (at 40,000 frames)",
        "image loss 2.5",
        "entropy 40 1 not finite",
        "jax 0.11.2",
        "command dreamer train --a 'b c'",
        "frames: 80000",
    ]:
        assert expected in page.text, expected
    assert page.tags.count("video") == 2 and page.tags.count("svg") == 4
    assert page.tags.count("circle") == 40 + 4


def test_what_an_environment_logs_is_drawn_up_to_a_number_of_charts(tmp_path):
    make_run(tmp_path)
    logger = open_logger(tmp_path, JsonlSink(tmp_path / "metrics.jsonl"))
    for frames in (50_000, 51_000):
        cells = {f"episode/visits/{i:02d}": 1.0 for i in range(60)}
        logged = {"episode/cost": 3.5, "episode/return": 7.0, "episode/length": 9.0}
        logged["episode/watched"] = 2.0  # After "visits" by its name, and drawn all the same.
        logger.write(frames, cells | logged)
    logger.close()
    page = write_report(tmp_path).read_text()
    part = page[page.index("What the environment logs of an episode") :]
    assert "<b>cost</b>" in part or ">cost<" in part
    assert ">watched<" in part
    assert "visits/37" in part and "visits/38" not in part
    assert "22 more are in metrics.jsonl." in part


def test_costs_and_their_weight_stand_at_the_top(tmp_path):
    make_run(tmp_path)
    top = lambda: write_report(tmp_path).read_text().partition("</dl>")[0]  # noqa: E731
    assert "Its cost" not in top()
    logger = open_logger(tmp_path, JsonlSink(tmp_path / "metrics.jsonl"))
    logger.write(51_000, {"eval/cost_mean": 12.34, "constraint/weight": 0.5})
    logger.close()
    assert "<dt>Its cost, of an episode</dt><dd>12.3</dd>" in top()
    assert "λ, the weight of a cost, is 0.5" in top()


def test_the_run_folder_gains_one_file(tmp_path):
    run = make_run(tmp_path / "run")
    before = set(run.iterdir())
    assert set(run.iterdir()) - before == set() and write_report(run) == run / "report.html"
    assert set(run.iterdir()) - before == {run / "report.html"}


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("metrics.jsonl", "holds no losses yet"),
        ("scores.jsonl", "holds no training episode"),
        ("config.yaml", "config.yaml is missing"),
        ("versions.txt", "does not say with which versions"),
        ("videos", "has no videos yet"),
    ],
)
def test_what_is_missing_is_said(tmp_path, missing, message):
    run = make_run(tmp_path / "run")
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert message in assert_self_contained(write_report(run)).text


def test_a_run_that_has_just_begun(tmp_path):
    (tmp_path / "config.yaml").write_text("task: gym_CartPole-v1\n")
    page = assert_self_contained(write_report(tmp_path))
    assert "No episode has ended" in page.text and "gym_CartPole-v1" in page.text


def test_damaged_files_are_left_out(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text("task: [unclosed\n")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"frames": 41000, "world_model/im')
    (run / "videos" / "broken-000000000001.mp4").write_bytes(b"")
    page = assert_self_contained(write_report(run))
    assert "image loss 2.5" in page.text and "broken-000000000001.mp4" in page.text


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_a_run(tmp_path, make):
    make_run(tmp_path / "walker")
    if make:
        (tmp_path / "walkr").mkdir()
    with pytest.raises(UserError, match="no run in .*walkr; did you mean 'walker'"):
        write_report(tmp_path / "walkr")
    assert (tmp_path / "walkr").exists() == make and not list(tmp_path.glob("*/report.html"))


def test_the_newest_video_of_each_name(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    assert {name: frames for name, (frames, _) in run.videos.items()} == {
        "eval_policy": 40_000,
        "open_loop_image": 40_000,
    }


def test_many_points_make_a_small_page(tmp_path):
    with (tmp_path / "scores.jsonl").open("w") as file:
        for frames in range(1, 50_000):
            file.write(f'{{"frames": {frames}, "return": {frames % 77}, "length": 1}}\n')
    assert write_report(tmp_path).stat().st_size < 300_000


def test_smooth_is_the_mean_of_the_newest():
    values = np.array([1.0, 3.0, np.nan, 5.0, 7.0])
    np.testing.assert_allclose(smooth(values, 2), [1, 2, 3, 5, 6])
    assert np.isnan(smooth(np.array([np.nan, 1.0]), 2)[0])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-3, 1, [-3, -2, -1, 0, 1]),
        (0, 0.05, [0, 0.01, 0.02, 0.03, 0.04, 0.05]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    np.testing.assert_allclose(nice_ticks(low, high, 5), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1e-17, "0"),
        (0.25, "0.25"),
        (5000, "5000"),
        (2e4, "20k"),
        (1.5e6, "1.5M"),
        (-3e9, "-3G"),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0], [0.0, 0.0], [1e30, -1e30], [np.nan, 2.0]])
def test_charts_of_awkward_values(values):
    values = np.array(values)
    series = [
        Series(kind, np.arange(len(values)), values, "x", high=values)
        for kind in ("line", "band", "points")
    ]
    drawing = chart(series, Frame(300, 200), "frames")
    assert drawing and "nan" not in drawing and "inf" not in drawing


@pytest.mark.parametrize(
    ("values", "alone"), [([1.0], 1), ([1, 2], 0), ([1, np.nan, 3, 4], 1), ([1, np.nan, 2], 2)]
)
def test_a_line_of_one_point_is_a_dot(values, alone):
    values = np.array(values)
    drawing = chart([Series("line", np.arange(len(values)), values, "x")], Frame(300, 200), "")
    assert drawing.count("<circle") == alone


def test_a_point_at_an_end_of_the_axis_is_drawn_whole():
    ends = Series("points", np.array([0.0, 9.0]), np.array([1.0, 2.0]), "x")
    drawing = chart([ends], Frame(300, 200), "")
    numbers = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawing).groups()
    left, width = map(float, numbers)
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawing)]
    radius = 4.75  # And half of the line around it.
    assert left <= min(places) - radius and max(places) + radius <= left + width


def test_speed_is_that_of_learning(tmp_path):
    """Random actions come first, and most often here, at a hundred times the speed."""
    make_run(tmp_path)
    logger = open_logger(tmp_path, JsonlSink(tmp_path / "metrics.jsonl"))
    for frames, speed, updates in ((41_000, 900, 0), (42_000, 12, 3), (43_000, 14, 5)):
        logger.write(frames, {"time/frames_per_s": speed, "time/updates_per_s": updates})
    logger.close()
    assert "Frames per second 13.0 4.0 updates per second" in Page(write_report(tmp_path)).text


def test_nothing_to_draw_is_empty():
    assert chart([Series("line", np.arange(2), np.full(2, np.nan), "x")], Frame(300, 200), "") == ""


def find_browser():
    names = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


@pytest.mark.browser
def test_a_browser_draws_it(tmp_path):
    """The page fits the window, and curve, policy and imagination are seen."""
    page = write_report(make_run(tmp_path / "run"))
    assert_self_contained(page)
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine: the page was checked as text only")
    picture = tmp_path / "page.png"
    quiet = "no-first-run disable-background-networking disable-component-update disable-sync"
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        + [f"--{flag}" for flag in quiet.split()]
        + [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,1800"]
        + ["--virtual-time-budget=2000", f"--screenshot={picture}", page.as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert count(pixels, (37, 99, 201), 20) > 500, "the evaluation curve"
    assert count(pixels, (180, 85, 45), 70) > 300, "the random policy's line"
    assert count(pixels, (0, 0, 255), 40) > 20_000, "the policy's video"
    assert count(pixels, (40, 180, 70), 40) > 500, "the context's border"
    background = pixels[-1, 0]
    assert (np.abs(pixels[:, -3:] - background) < 8).all(), "nothing runs over the edge"


def count(pixels, colour, tolerance):
    return int((np.abs(pixels - colour).max(-1) < tolerance).sum())
