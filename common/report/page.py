"""The HTML of a run's report."""

from __future__ import annotations

import base64
import math
import pathlib

import numpy as np

from common.errors import UserError
from common.logging.terminal import format_seconds
from common.report import beside
from common.report.agents import agent_name
from common.report.charts import Frame, Series, chart, legend, smooth, thin
from common.report.comparison import compare
from common.report.data import Curve, RunData
from common.report.html import document, escape, note, section, write_page
from common.report.read import read_run
from common.run.clocks import SECONDS
from common.run.folder import CONFIG, METRICS, REPORT, SCORES

_X_LABELS = {
    "frames": "frames (simulator steps, action repeat included)",
    "updates": "updates, from episodes that were there already",
}
WIDE = Frame(920, 400)
"""Of the chart of the whole run."""
_MOST_DOTS = 1500
_MOST_POINTS = 400
_LARGEST_VIDEO = 30_000_000
GROUPS = {
    "world_model": "World model",
    "tdm": "Token-level dynamics",
    "model": "TD-MPC2's model",
    "policy": "Policy",
    "actor": "Actor",
    "critic": "Critic",
    "imagination": "Imagination",
    "explorer": "Exploration",
    "ensemble": "Ensemble",
    "distill": "Distillation",
    "constraint": "Constraint",
    "episode": "What the environment logs of an episode",
    "replay": "Replay",
    "time": "Speed",
}
"""Titles of the groups of metrics that are drawn."""
_ELSEWHERE = ("episode/return", "episode/length")
"""Metrics of these groups that other parts of the page are about."""
_MOST = 40
"""Charts of a group."""
_TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}


def write_report(logdir: pathlib.Path) -> pathlib.Path:
    """Writes ``report.html`` into a run folder.

    Args:
        logdir: A run folder, of a run that ended or still goes on.

    Returns:
        Path of the page.

    Raises:
        UserError: There is no run in the folder, or the page cannot be written.
    """
    logdir = pathlib.Path(logdir)
    return write_page(logdir / REPORT, render(read_run(logdir)))


def render(run: RunData) -> str:
    """Returns the whole page."""
    sections = [
        _headline(run),
        section("Learning curve", learning_curve(run)),
        *_beside_others(run),
        section("What it does, and what it imagines", _videos(run)),
        *metric_sections(run),
        section("Where the time went", shares_of_time(run)),
        section("How it was made", _provenance(run)),
    ]
    subtitle = f"Run folder <code>{escape(run.logdir.resolve())}</code>{_seed(run)}"
    return document(title(run), subtitle, sections, beside.STYLE)


def title(run: RunData) -> str:
    """Returns who was trained on what."""
    task = str(run.settings.get("task", run.logdir.resolve().name))
    agent = agent_name(run.settings)
    return f"{agent} on {task}" if agent else task


def planned(run: RunData) -> int | None:
    """Returns the length of a run by its clock, None where its configuration does not say it."""
    found = run.settings.get("run", {}).get(run.clock) if run.settings else None
    return found if isinstance(found, int) else None


def _seed(run: RunData) -> str:
    return f" · seed {escape(run.settings['seed'])}" if "seed" in run.settings else ""


def _last(run: RunData, name: str) -> float:
    return run.metrics[name].last if name in run.metrics else math.nan


def _number(value: float) -> str:
    return "?" if not math.isfinite(value) else f"{value:,.1f}"


def _headline(run: RunData) -> str:
    """The figures that answer "did it learn, at which price?"."""
    mean, random = _last(run, "eval/return_mean"), _last(run, "random/return_mean")
    low, high = _last(run, "eval/return_min"), _last(run, "eval/return_max")
    spread = f"{_number(low)} to {_number(high)} over the episodes" if low == low else ""
    if math.isnan(mean):
        mean = float(np.mean(run.scores.values[-10:])) if len(run.scores.values) else math.nan
        name, spread = "Training return", "mean of the last 10 episodes; no evaluation yet"
    else:
        name = f"Evaluation return at {_frames_of(run, 'eval/return_mean'):,} {run.clock}"
    length = planned(run)
    share = f"of {length:,} planned" if length is not None else ""
    hours = format_seconds(run.seconds)
    speed, updates = _speeds(run)
    and_updates = f"{_number(updates)} updates per second" if run.clock == "frames" else ""
    cards = [
        ("main", name, _number(mean), spread),
        ("", "Random policy's return", _number(random), "" if random == random else "not scored"),
        ("", run.clock.capitalize(), f"{run.frames:,}", share),
        ("", "Wall-clock time (h:mm:ss)", hours, ""),
        ("", f"{run.clock.capitalize()} per second", _number(speed), and_updates),
    ]
    if "eval/cost_mean" in run.metrics:
        weight = _last(run, "constraint/weight")
        small = f"λ, the weight of a cost, is {weight:.3g}" if weight == weight else ""
        cards.insert(
            1, ("", "Its cost, of an episode", _number(_last(run, "eval/cost_mean")), small)
        )
    items = [
        f'<div class="card {style}"><dt>{escape(name)}</dt><dd>{escape(value)}</dd>'
        f"<small>{escape(small)}</small></div>"
        for style, name, value, small in cards
    ]
    return f"<dl class='cards'>{''.join(items)}</dl>"


def _frames_of(run: RunData, name: str) -> int:
    return int(run.metrics[name].frames[-1])


def _speeds(run: RunData) -> tuple[float, float]:
    """Returns frames and updates per second, medians over the time in which it learned.

    Random actions before that are a hundred times as fast.
    """
    speed = run.metrics.get(f"time/{run.clock}_per_s")
    updates = run.metrics.get("time/updates_per_s")
    if speed and updates:
        learned = updates.frames[updates.values > 0]
        if len(learned):
            speed, updates = (
                Curve(one.frames, np.where(np.isin(one.frames, learned), one.values, np.nan))
                for one in (speed, updates)
            )
    return _median(speed), _median(updates)


def _median(curve: Curve | None) -> float:
    finite = curve.values[np.isfinite(curve.values)] if curve else np.zeros(0)
    return float(np.median(finite)) if len(finite) else math.nan


def learning_curve(run: RunData, frame: Frame = WIDE) -> str:
    """Returns a chart of the returns of episodes and evaluations, or a remark."""
    series = []
    frames, returns = run.scores.frames, run.scores.values
    if len(frames):
        window = max(5, len(frames) // 20)
        every = -(-len(frames) // _MOST_DOTS)
        series.append(
            Series("dots", frames[::every], returns[::every], "train", "training episodes")
        )
        label = f"their mean over {window} episodes"
        mean = smooth(returns, window)
        series.append(Series("line", *thin(frames, mean, _MOST_POINTS), "train", label))
    series += _evaluations(run)
    random = _last(run, "random/return_mean")
    if random == random:
        series.append(Series("rule", np.zeros(1), np.array([random]), "random", "random policy"))
    drawing = chart(series, frame, _X_LABELS[run.clock], "return of an episode")
    if not drawing:
        return note("No episode has ended and no evaluation was made yet.")
    expected = run.clock == "frames"  # Learning from data plays no episode to learn.
    missing = expected and not len(frames)
    notes = note(f"{SCORES} holds no training episode.") if missing else ""
    if "eval/return_mean" not in run.metrics:
        notes += note("There was no evaluation yet; training episodes act with noise.")
    return f"{legend(series)}<figure>{drawing}</figure>{notes}"


def _beside_others(run: RunData) -> list[str]:
    """The run beside published agents; nothing where there are none of its task."""
    try:
        found = compare([run])
    except UserError:
        return []
    return [section("Beside published agents", beside.section_of(found))] if found.others else []


def _evaluations(run: RunData) -> list[Series]:
    names = ("eval/return_mean", "eval/return_min", "eval/return_max")
    mean, low, high = (run.metrics.get(name) for name in names)
    series = []
    if low and high and len(low.frames) == len(high.frames) > 1:
        label = "evaluation, lowest to highest episode"
        series.append(Series("band", low.frames, low.values, "eval", label, high.values))
    if mean:
        series.append(Series("line", mean.frames, mean.values, "eval", "evaluation, mean"))
        series.append(Series("points", mean.frames, mean.values, "eval"))
    return series


def _videos(run: RunData) -> str:
    if not run.videos:
        return note("The run has no videos yet (or run.video is off).")
    figures = [
        video_figure(name, frames, run.clock, _player(path))
        for name, (frames, path) in sorted(run.videos.items())
    ]
    return f'<div class="videos">{"".join(figures)}</div>'


def video_figure(name: str, frames: int, clock: str, player: str) -> str:
    """Returns a video with what it shows.

    Args:
        name: Of the video, such as "eval_policy".
        frames: When it was filmed.
        clock: What the run counts.
        player: The element that plays it, as HTML.
    """
    policy = not name.startswith("open_loop")
    words = name.replace("_", " ").capitalize()
    words = {"Eval policy": "The policy, in the latest evaluation"}.get(words, words)
    if not policy:
        words += (
            ": truth above, the model's prediction, and its error below. Green borders: "
            "the model sees the truth. Red: it imagines from actions alone"
        )
    style = "policy" if policy else "strip"
    caption = f"<figcaption>{escape(words)} (at {frames:,} {clock}).</figcaption>"
    return f'<figure class="{style}">{player}{caption}</figure>'


def _player(path: pathlib.Path) -> str:
    content = path.read_bytes()
    if not content or len(content) > _LARGEST_VIDEO:
        size = f"{len(content) / 1e6:.0f} MB"
        return note(f"{path.name} ({size}) is not shown here; open the file itself.")
    source = f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
    if path.suffix == ".gif":
        return f'<img src="{source}" alt="{escape(path.stem)}">'
    # Without controls, which would cover the lowest row; a click pauses.
    pause = "this.paused ? this.play() : this.pause()"
    return (
        f'<video src="{source}" autoplay loop muted playsinline title="click to pause" '
        f'onclick="{pause}"></video>'
    )


def metric_sections(run: RunData) -> list[str]:
    """Returns a section of small charts for each group of metrics."""
    sections = []
    for group, title in GROUPS.items():
        curves = {
            name.partition("/")[2]: curve
            for name, curve in run.metrics.items()
            if name.startswith(f"{group}/") and not name.startswith((SECONDS, *_ELSEWHERE))
        }
        # The losses first: they are what one looks for; families, such as visits of cells, last.
        names = sorted(curves, key=lambda name: ("loss" not in name, "/" in name, name))
        charts = "".join(_small(name, curves[name]) for name in names[:_MOST])
        if charts:
            left = f"{len(names) - _MOST} more are in {METRICS}." if len(names) > _MOST else ""
            body = f'<div class="grid-of-charts">{charts}</div>{note(left) if left else ""}'
            sections.append(section(title, body))
    if not sections:
        sections.append(section("Losses", note(f"{METRICS} holds no losses yet.")))
    return sections


def shares_of_time(run: RunData) -> str:
    """Returns a table with bars of what the run spent its time on, the longest first."""
    parts = {
        name.removeprefix(SECONDS): float(np.nansum(curve.values))
        for name, curve in run.metrics.items()
        if name.startswith(SECONDS)
    }
    total = sum(parts.values())
    if not total:
        return note(f"{METRICS} does not say what the time was spent on.")
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(PARTS.get(name, ''))}</td>"
        f'<td class="number">{escape(format_seconds(seconds))}</td>'
        f'<td class="number">{100 * seconds / total:.1f}%</td>'
        f'<td class="share"><i style="width:{100 * seconds / total:.2f}%"></i></td></tr>'
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1])
    )
    return f'<table class="shares">{rows}</table>'


PARTS = {
    "update": "learning: waiting for updates of model and behaviour",
    "acting": "choosing actions",
    "environment": "waiting for the environments",
    "replay": "storing rows, and waiting for batches",
    "log": "writing metrics and videos",
    "evaluation": "evaluations, the random policy, and films",
    "checkpoint": "writing checkpoints and the export",
    "compiling": "compiling the update and the policy",
    "rest": "everything else",
}
"""What a run counts the seconds of, and what that is."""


def _small(name: str, curve: Curve) -> str:
    bad = int((~np.isfinite(curve.values)).sum())
    line = Series("line", *thin(curve.frames, curve.values, _MOST_POINTS), "metric")
    frame = Frame(290, 150, left=52, bottom=24)
    drawing = chart([line], frame, "", robust=True, name=name) or note("no finite value")
    warning = f' <b class="bad">{bad} not finite</b>' if bad else ""
    value = f"{curve.last:.4g}" if math.isfinite(curve.last) else "?"
    return (
        f"<figure><figcaption><b>{escape(name.replace('_', ' '))}</b> {value}{warning}"
        f"</figcaption>{drawing}</figure>"
    )


def _provenance(run: RunData) -> str:
    parts = []
    if run.versions:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in run.versions.items()
        )
        parts.append(
            f"<details><summary>Versions and hardware</summary><table>{rows}</table></details>"
        )
    else:
        parts.append(note("The run folder does not say with which versions it was made."))
    if run.config:
        parts.append(
            "<details><summary>Configuration, resolved</summary>"
            f"<pre>{escape(run.config)}</pre></details>"
        )
    else:
        parts.append(note(f"{CONFIG} is missing."))
    return "".join(parts)
