"""What a selection found, and how much worse others would have chosen."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.page.figures import new_figure
from benchmarks.page.style import light_color
from benchmarks.selection.bandit import METHODS, Arms, regret, simulate
from benchmarks.selection.process import Belief
from benchmarks.selection.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPEATS = 30
"""Bandits that each method is tried in, whose returns are drawn from the verified episodes."""
COLD = ", nothing known before"
SHOWN = (1, 5, 10, 20, 50, 100)
"""Episodes of which the table shows the regret."""


def table(names: Sequence[Sequence[Any]], record: Record, belief: Belief) -> str:
    """Shows every candidate, that with the highest mean first."""
    checked = any(record.verified)
    head = "| candidate | posterior mean | std | episodes | their mean | expected before |"
    lines = [head + (" verified |" if checked else ""), "|---" * (6 + checked) + "|"]
    for arm in np.argsort(-belief.mean, kind="stable"):
        own = [x for a, x in zip(record.arms, record.returns, strict=True) if a == arm]
        mean = f"{np.mean(own):.1f}" if own else ""
        value = "" if record.values is None else f"{record.values[arm]:.1f}"
        line = f"| {names[arm][0]} | {belief.mean[arm]:.1f} | {belief.std[arm]:.1f} | {len(own)} | "
        line += f"{mean} | {value} |"
        if checked:
            found = record.verified[arm]
            line += f" {np.mean(found):.1f} ({len(found)}) |" if found else "  |"
        lines.append(line)
    return "\n".join(lines)


def compare(record: Record, arms: Arms) -> dict[str, Any]:
    """Returns the simple regret by episode of all methods, whose episodes are drawn anew.

    Args:
        record: With verified episodes of every candidate, whose means count as the truth.
        arms: What is known without an episode.
    """
    least = min(map(len, record.verified))
    bank = np.array([one[:least] for one in record.verified])
    several = np.broadcast_to(bank, (REPEATS, *bank.shape))
    distances = np.broadcast_to(arms.distances, (REPEATS, *arms.distances.shape))
    truth, episodes = several.mean(-1), len(record.arms)
    found: dict[str, Any] = {"repeats": REPEATS, "verified": least, "methods": {}}
    warm = {"": np.broadcast_to(arms.values, truth.shape)} if arms.values is not None else {}
    for words, values in {**warm, COLD: None}.items():
        for method in METHODS:
            chosen = simulate(method, distances, several, values, episodes, arms.seed)
            each = regret(truth, chosen)
            found["methods"][f"{method}{words}"] = {
                "mean": np.round(each.mean(0), 3).tolist(),
                "error": np.round(each.std(0) / np.sqrt(REPEATS), 3).tolist(),
            }
    choices = [
        int(arms.belief(record.arms[: n + 1], record.returns[: n + 1]).mean.argmax())
        for n in range(episodes)
    ]
    means = bank.mean(-1)
    found["this selection"] = np.round(means.max() - means[choices], 3).tolist()
    found["at random"] = round(float(means.max() - means.mean()), 3)
    if arms.values is not None:
        found["by models alone"] = round(float(means.max() - means[arms.values.argmax()]), 3)
    return found


def regret_table(found: Mapping[str, Any]) -> str:
    """Shows the regrets of ``compare`` after some numbers of episodes."""
    last = len(found["this selection"])
    shown = [n for n in SHOWN if n <= last]
    head = f"| regret after episodes ({found['repeats']} draws) | "
    lines = [head + " | ".join(map(str, shown)) + " |", "|---" * (1 + len(shown)) + "|"]
    for method, one in found["methods"].items():
        cells = [f"{one['mean'][n - 1]:.1f} ± {one['error'][n - 1]:.1f}" for n in shown]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    own = [f"{found['this selection'][n - 1]:.1f}" for n in shown]
    lines.append(f"| this selection | {' | '.join(own)} |")
    words = [f"a candidate at random: {found['at random']:.1f}"]
    if "by models alone" in found:
        words.append(f"by the models alone: {found['by models alone']:.1f}")
    return "\n".join([*lines, "", f"regret of {'; '.join(words)}"])


def draw(result: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws the regrets of ``compare`` by episode, and the error of their means.

    Args:
        result: What the command records, with "task", "candidates" and "regret".
        path: The PNG.
    """
    found = result["regret"]
    own = found["this selection"]
    figure = new_figure(5.5, 4.4, 120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    top = max(found["at random"], found.get("by models alone", 0), *own)
    for number, (method, line) in enumerate(found["methods"].items()):
        mean, error = np.array(line["mean"]), np.array(line["error"])
        style = ".--" if method.endswith(COLD) else ".-"
        episodes, color = np.arange(1, len(mean) + 1), light_color(number % len(METHODS))
        width = 2.4 - 0.7 * (number % len(METHODS))  # What lies below another line shows beside it.
        sizes = {"linewidth": width, "markersize": 2 * width + 1.5}
        axes.plot(episodes, mean, style, color=color, label=method, **sizes)
        low = np.maximum(mean - error, 0)
        axes.fill_between(episodes, low, mean + error, color=color, alpha=0.12, linewidth=0)
        top = max(top, (mean + error).max())
    axes.plot(range(1, len(own) + 1), own, "k.-", ms=2.5, lw=0.6, label="this selection")
    axes.axhline(found["at random"], color="0.5", ls="--", lw=1, label="no episode: at random")
    if "by models alone" in found:
        label = "no episode: by the models"
        axes.axhline(found["by models alone"], color="0.5", ls=":", lw=1.2, label=label)
    words = f"bands: standard error of {found['repeats']} draws"
    title = f"{result['task']}, {len(result['candidates'])} candidates; {words}"
    axes.set_title(title.replace("$", r"\$"), fontsize=8)
    axes.set_xlabel("episodes", fontsize=8)
    axes.set_ylabel("regret: best return - chosen one's", fontsize=8)
    _scale(axes, len(own), top)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    figure.savefig(path)


def _scale(axes: Axes, episodes: int, top: float) -> None:
    """Sets ticks and limits: whole episodes, and regrets logarithmic where they go beyond 10."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, episodes + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    if top <= 10:
        axes.set_ylim(-0.03 * (top or 1), 1.05 * (top or 1))
        return
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(-0.1, 1.4 * top)
    marks = [0, *(one * 10**decade for decade in range(int(np.log10(top)) + 1) for one in (1, 3))]
    shown = [mark for mark in marks if mark <= top]
    axes.set_yticks(shown, [f"{mark:,}" for mark in shown], minor=False)
    axes.set_yticks([], minor=True)
