"""The page of a benchmark: what it says, what it leaves out, and what a browser shows."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from benchmarks.page import command, results
from benchmarks.page.bars import bars
from benchmarks.page.printed import agrees, comparison
from benchmarks.page.style import COLORS
from benchmarks.scores.tables import AgentScores, Curve
from benchmarks.suites import Protocol, Suite, suite

OWN = Protocol(1000, "evaluation", 0.25, "all")
SUITE = Suite(
    "atari",
    {"Pong": "atari_pong", "Alien": "atari_alien", "Zaxxon": "atari_zaxxon"},
    OWN,
    ("atari",),
    {"Pong": -20.0, "Alien": 200.0, "Zaxxon": 0.0},
    {"Pong": 15.0, "Alien": 7000.0, "Zaxxon": 9000.0},
    {"Pong": 21.0, "Alien": 250_000.0, "Zaxxon": 80_000.0},
)
FRAMES = np.arange(100, 1001, 100)


def make_curve(final, short=0):
    """Curves that rise to the final score of each seed; the first ones may stop early."""
    returns = np.outer(final, FRAMES / FRAMES[-1])
    returns[:short, 5:] = np.nan
    return Curve(FRAMES, returns)


def make_agents():
    scores = {
        "Pong": np.array([10.0, 12.0, 14.0]),
        "Alien": np.array([900.0, 1500.0, 3000.0]),
        "Zaxxon": np.array([90_000.0, 80_000.0, 85_000.0]),
    }
    seeds = dict.fromkeys(scores, 3)
    curves = {task: make_curve(values, task == "Alien") for task, values in scores.items()}
    ours = AgentScores("Ours <b>", OWN, "runs/ours", scores, seeds, curves, ("a seed crashed",))
    means = {"Pong": np.array([5.0]), "Alien": np.array([2000.0])}
    other = AgentScores(
        "Other",
        dataclasses.replace(OWN, returns="training", sticky=0.0),
        "a paper",
        means,
        dict.fromkeys(means, 5),
        {"Pong": make_curve([5.0])},
        published=True,
    )
    return [other, ours]


@pytest.fixture(scope="module", name="report")
def _report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "report"
    made = {"command": "python -m benchmarks <atari> report"}
    return command.write_report(folder, SUITE, make_agents(), 200, 0, made)


class Page(html.parser.HTMLParser):
    """Gathers text, tags and what is linked, and checks that tags close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.tags, self.links = [], [], [], []
        self.feed(text)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "data", "srcset")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_says_what_limits_the_scores(report):
    text = Page(report.read_text()).text
    for expected in [
        "atari: 2 agents, 3 tasks",
        "Protocol other or unknown, or tasks missing: not ranked",
        "Other 2 of 3 tasks",
        "Other: 1 of 3 tasks are missing and count nowhere: Zaxxon.",
        "Ours <b>: a seed crashed",
        "in every task only the mean over seeds is known",
        "Other (2 of 3 tasks, of means over seeds, other protocol)",
        "Protocol not the benchmark's, or not fully known: Other.",
        "training returns instead of evaluation; sticky actions 0.0 instead of 0.25",
        "Alien 3 seeds, 1 stop early",
        "0.001M frames, sticky 0.25, 18 actions, pixels, evaluation returns",
        "Source published: a paper",
        "Source runs/ours",
        "Seeds of a task 5",
        "command python -m benchmarks <atari> report",
    ]:
        assert expected in text, expected


def test_the_page_loads_nothing(report):
    text = report.read_text()
    assert all(link.startswith("data:") for link in Page(text).links)
    assert not re.search(r"url\((?!#)|@import|https?://|<script [^>]*src", text)


def test_tables_hold_the_numbers(report):
    figures = report.parent / "figures"
    aggregates = {(row["agent"], row["aggregate"]): row for row in read(figures / "aggregates.csv")}
    median = aggregates["Ours <b>", "gamer median"]
    assert float(median["value"]) == pytest.approx((12 + 20) / 35)
    assert float(median["low"]) < float(median["value"]) < float(median["high"])
    other = aggregates["Other", "gamer mean"]
    assert float(other["value"]) == pytest.approx((25 / 35 + 1800 / 6800) / 2)
    assert (other["low"], other["tasks"], other["missing"]) == ("", "2", "Zaxxon")
    assert "training returns" in other["differs"]
    tasks = {row["task"]: row for row in read(figures / "tasks.csv")}
    assert tasks["Zaxxon"]["Other (other protocol)"] == ""
    assert float(tasks["Zaxxon"]["Ours <b>, record = 1 (clipped at 1)"]) == 1
    assert float(tasks["Alien"]["Ours <b> (mean over seeds, 95% interval)"]) == 1800
    shares = [row for row in read(figures / "profiles.csv") if row["agent"] == "Ours <b>"]
    assert float(shares[0]["share"]) == 1 and {row["scale"] for row in shares} == {
        "gamer",
        "record",
    }
    curves = [row for row in read(figures / "curves.csv") if row["task"] == "Alien"]
    assert len(curves) == len(FRAMES) and {row["runs"] for row in curves} == {"3"}
    assert float(curves[-1]["mean"]) == pytest.approx((900 / 2 + 1500 + 3000) / 3)


def test_pictures_are_not_blank(report):
    for name in ("aggregates", "profiles", "curves"):
        pixels = np.asarray(Image.open(report.parent / "figures" / f"{name}.png").convert("RGB"))
        assert count(pixels, hex_color(COLORS[0][0]), 12) > 30, name


def test_agents_that_stand_apart_come_last():
    ours, other = results.evaluate(make_agents(), SUITE, 0)
    assert ours.focus and not ours.apart and ours.color == 0
    assert other.apart and not other.focus and other.differences
    incomplete = dataclasses.replace(other.agent, protocol=OWN)
    assert results.evaluate([incomplete], SUITE, 0)[0].apart
    loose = dataclasses.replace(ours.agent, protocol=dataclasses.replace(OWN, returns=None))
    assert results.evaluate([loose], SUITE, 0)[0].remark == "protocol not fully known"
    assert (ours.remark, other.remark) == ("", "other protocol")


def test_long_names_are_cut_in_bars_only():
    agent = dataclasses.replace(make_agents()[1], name="an agent with a name that is long")
    figure = bars("gamer mean", results.evaluate([agent], SUITE, 0))
    assert f"<title>{agent.name}</title>an agent with a name th…</text>" in figure


def test_bars_below_zero_end_at_zero():
    ours = make_agents()[1]
    worse = {task: np.array([SUITE.low[task] - 10.0] * 2) for task in SUITE.tasks}
    agents = [ours, dataclasses.replace(ours, name="Worse", scores=worse)]
    figure = bars("gamer mean", results.evaluate(agents, SUITE, 0))
    boxes = re.findall(r'class="bar [^>]* x="([\d.]+)" y="\d+[.\d]*" width="([\d.]+)"', figure)
    (zero, _), (left, width) = [tuple(map(float, box)) for box in boxes]
    assert left + width == pytest.approx(zero, abs=0.2) and 0 < left < zero


def test_published_agents_with_known_runs_are_in_focus_where_there_is_no_other():
    other, ours = make_agents()
    known = dataclasses.replace(ours, published=True)
    assert [result.focus for result in results.evaluate([other, known], SUITE, 0)] == [True, False]
    loose = dataclasses.replace(known, protocol=other.protocol, name="loose")
    assert [r.name for r in results.evaluate([other, loose], SUITE, 0) if r.focus] == ["loose"]
    assert results.evaluate([], SUITE, 0) == []


def test_a_short_seed_keeps_its_last_return():
    curve = Curve(np.arange(4), np.array([[1.0, np.nan, 3.0, np.nan], [np.nan, 5.0, np.nan, 7.0]]))
    summary = results.summarize(curve)
    np.testing.assert_array_equal(summary.mean, [1, 3, 4, 5])
    np.testing.assert_array_equal(summary.low, [1, 1, 3, 3])
    np.testing.assert_array_equal(summary.high, [1, 5, 5, 7])
    assert (summary.runs, summary.early) == (2, 1)
    within = results.summarize(curve, 2.0)
    np.testing.assert_array_equal(within.mean, [1, 3, 4])
    assert within.early == 1


def test_a_curve_without_values_is_empty():
    summary = results.summarize(Curve(np.arange(3), np.full((2, 3), np.nan)))
    assert not len(summary.frames) and summary.early == 2


def test_intervals_of_profiles_are_those_of_redrawn_seeds():
    """Drawing counts from a binomial is drawing the seeds themselves."""
    agent = make_agents()[1]
    (gamer, _) = results.profiles(results.evaluate([agent], SUITE, 1000), SUITE, 1000)
    profile = gamer.by_agent[agent.name]
    assert (profile.low <= profile.share).all() and (profile.share <= profile.high).all()
    rng = np.random.default_rng(1)
    drawn = [values[rng.integers(0, 3, (4000, 3))] for values in agent.scores.values()]
    scaled = [
        (values - SUITE.low[task]) / (SUITE.gamer[task] - SUITE.low[task])
        for task, values in zip(agent.scores, drawn, strict=True)
    ]
    for index in (2, 10, 20):
        shares = np.mean([(x > gamer.thresholds[index]).mean(-1) for x in scaled], 0)
        low, high = np.quantile(shares, (0.025, 0.975))
        assert profile.low[index] == pytest.approx(low, abs=0.12)
        assert profile.high[index] == pytest.approx(high, abs=0.12)


@pytest.mark.parametrize(("digits", "value", "same"), [("2.15", 2.149, True), ("0.5", 0.44, False)])
def test_printed_digits(digits, value, same):
    assert agrees(digits, value) == same


def test_other_benchmarks(tmp_path):
    """The control suite has no gamers, and an agent may have no scores at all."""
    dmc = suite("dmc")
    scores = {task: np.array([500.0, 700.0]) for task in dmc.tasks}
    agent = AgentScores("Full", dmc.protocol, "x", scores, dict.fromkeys(scores, 2))
    empty = AgentScores("Empty", Protocol(None, None), "y", {}, {})
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "curves.png").write_text("of an earlier report")
    path = command.write_report(tmp_path, dmc, [agent, empty], 50)
    text = Page(path.read_text()).text
    assert "divided by 1000" in text and "Gamer" not in text
    assert "None of the agents has learning curves." in text
    assert "Optimality gap lower is better" in text
    assert "Empty: 20 of 20 tasks are missing" in text
    assert "frames unknown instead of 1M; unknown returns instead of evaluation" in text
    assert not (tmp_path / "figures" / "curves.png").exists()
    assert comparison(results.evaluate([agent], dmc, 0), dmc) == ""


def test_shipped_scores_reproduce_what_was_printed(tmp_path, capsys):
    argv = ["--published", "--bootstrap", "50", "--seed", "3", "--out", str(tmp_path)]
    assert command.report("atari", argv) == 0
    path = tmp_path / "report.html"
    assert capsys.readouterr().out == f"report: {path}\n"
    page = Page(path.read_text())
    assert "DreamerV2 2.15 2.15 11.33 11.33 0.44 0.44 0.28 0.28" in page.text
    assert "differs" not in page.text and "50 samples" in page.text
    assert page.tags.count("svg") == 1 + 4 + 2 + 55
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "nothing to score"),
        (["--publishd"], "unknown option --publishd; did you mean '--published'?"),
        (["--published", "--bootstrap", "-1"], "--bootstrap is -1"),
        (["--published", "--seed", "-1"], "--seed is -1"),
        (["--published", "--bootstrap", "0", "--out", "{file}/x"], "cannot write into"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, capsys, argv, message):
    file = tmp_path / "file"
    file.write_text("")
    assert command.report("atari", [word.format(file=file) for word in argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def browse(page, folder, *options):
    """Runs headless Chromium on a page and returns what it prints."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for path in map(shutil.which, names) if path), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    quiet = "no-first-run disable-background-networking disable-component-update disable-sync"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        + [f"--{flag}" for flag in quiet.split()]
        + [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000"]
        + [*options, page.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


@pytest.mark.browser
@pytest.mark.parametrize(
    ("column", "presses", "order", "aria"),
    [
        (0, 1, ["Alien", "Pong", "Zaxxon"], "ascending"),
        (0, 2, ["Zaxxon", "Pong", "Alien"], "descending"),
        (1, 1, ["Zaxxon", "Alien", "Pong"], "descending"),
        (8, 1, ["Alien", "Pong", "Zaxxon"], "descending"),
        (8, 2, ["Pong", "Alien", "Zaxxon"], "ascending"),
    ],
)
def test_the_table_sorts(report, tmp_path, column, presses, order, aria):
    """Presses a heading; a missing score (Zaxxon's in column 8) stays last either way."""
    press = f'document.querySelectorAll("th button")[{column}].click();' * presses
    page = tmp_path / "pressed.html"
    page.write_text(report.read_text().replace("</main>", f"</main><script>{press}</script>"))
    drawn = browse(page, tmp_path, "--dump-dom")
    assert re.findall(r'<th scope="row" data-value="(\w+)"', drawn) == order
    sorts = re.findall(r'aria-sort="(\w+)"', drawn[drawn.index("<thead><tr><th") :])
    assert [s for s in sorts if s != "none"][0] == aria and sorts.count("none") == len(sorts) - 1


@pytest.mark.browser
def test_a_browser_draws_it(report, tmp_path):
    picture = tmp_path / "page.png"
    browse(report, tmp_path, "--window-size=1200,1400", f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert count(pixels, hex_color(COLORS[0][0]), 20) > 5000, "bars of ours"
    assert count(pixels, hex_color(COLORS[1][0]), 20) > 300, "outlines of the other's"
    assert (np.abs(pixels[:, -3:].astype(int) - pixels[-1, -1]) < 8).all(), "over the edge"


def hex_color(text):
    return [int(text[i : i + 2], 16) for i in (1, 3, 5)]


def count(pixels, color, tolerance):
    return int((np.abs(pixels.astype(int) - color).max(-1) < tolerance).sum())
