"""What the page shows: its frame, its script, and the parts of a run that change."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

import numpy as np

from common.logging.terminal import format_seconds, progress_line
from common.report.charts import Frame
from common.report.data import RunData
from common.report.html import document, escape, note
from common.report.page import (
    learning_curve,
    metric_sections,
    planned,
    shares_of_time,
    title,
    video_figure,
)  # fmt: skip
from common.watch.runs import Watched

LAST_LINES = 8
_CURVE = Frame(640, 330)
_STYLE = """
main { max-width: 2000px; }
section h2 { margin-top: 24px; }
.runs { display: grid; gap: 18px; margin-top: 20px;
  grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); }
.run { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px;
  min-width: 0; max-width: 760px; }
.run h2 { margin: 0; font-size: 17px; overflow-wrap: anywhere; }
.run p { margin: 2px 0; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.run figure { border: 0; padding: 4px 0; }
.run pre { font-size: 11px; color: var(--ink); margin: 4px 0; }
.run details { padding: 4px 10px; } .run summary { font-size: 13px; }
.run .legend { font-size: 11px; gap: 0 12px; margin: 8px 0 0; }
.run .policy { width: 200px; } .run .strip { flex: 1 1 300px; }
.run .strip video, .run .strip img { width: auto; max-height: 280px; }
.run .shares td:nth-of-type(1) { display: none; }
.bar { height: 6px; border-radius: 3px; background: var(--line); margin: 6px 0; }
.bar i { display: block; height: 6px; border-radius: 3px; background: var(--eval); }
#all td, #all th { white-space: nowrap; } #all { overflow-x: auto; }
#all thead th { color: var(--ink); } #all .number { text-align: right;
  font-variant-numeric: tabular-nums; }
#all a { color: var(--eval); text-decoration: none; }
#lost { color: var(--bad); }
[hidden] { display: none !important; }
"""
_BODY = """
<p id="lost" class="note" hidden>The server does not answer; it may have been ended.</p>
<div id="notes"></div>
<div id="all" hidden><table><thead><tr><th>run</th><th class="number">return</th>
<th class="number">random</th><th class="number">done</th><th class="number">per second</th>
<th class="number">time left</th><th class="number">last written</th></tr></thead>
<tbody></tbody></table></div>
<div class="runs"></div>
<script src="/watch.js"></script>
"""
SCRIPT = """'use strict';
const PARTS = ['head', 'curve', 'films', 'lines', 'time', 'metrics'];
const CLOSED = {time: 'Where the time went', metrics: 'All metrics'};
const shown = new Map();
const byId = id => document.getElementById(id);

function ago(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return s + ' s ago';
  if (s < 7200) return Math.round(s / 60) + ' min ago';
  return s < 172800 ? Math.round(s / 3600) + ' h ago' : Math.round(s / 86400) + ' days ago';
}

function make(key, few) {
  const card = document.createElement('section');
  card.className = 'run';
  card.id = 'run-' + key;
  const run = {key, card, row: document.createElement('tr'), parts: {}, versions: {}};
  for (const name of PARTS) {
    const part = document.createElement('div');
    part.className = 'part-' + name;
    let outer = part;
    if (name in CLOSED) {
      outer = document.createElement('details');
      const summary = document.createElement('summary');
      summary.textContent = CLOSED[name];
      outer.append(summary, part);
      outer.open = few && name === 'time';
      outer.addEventListener('toggle', refresh);
      part.closed = () => !outer.open;
    }
    run.parts[name] = part;
    card.append(outer);
  }
  run.parts.row = run.row;
  return run;
}

async function fill(run, versions) {
  for (const [name, version] of Object.entries(versions)) {
    const part = run.parts[name];
    if (run.versions[name] === version || (part.closed && part.closed())) continue;
    const answer = await fetch(`/part/${run.key}/${name}`);
    if (!answer.ok) continue;
    part.innerHTML = await answer.text();
    run.versions[name] = version;
  }
}

async function update() {
  const answer = await fetch('/state');
  const state = await answer.json();
  const present = new Set(state.runs.map(one => one.key));
  for (const [key, run] of shown) {
    if (present.has(key)) continue;
    run.card.remove();
    run.row.remove();
    shown.delete(key);
  }
  const cards = document.querySelector('.runs'), rows = document.querySelector('#all tbody');
  for (const one of state.runs) {
    if (!shown.has(one.key)) shown.set(one.key, make(one.key, state.runs.length <= 3));
    const run = shown.get(one.key);
    if (run.card.parentNode !== cards) { cards.append(run.card); rows.append(run.row); }
    await fill(run, one.versions);
    for (const place of [run.card, run.row]) {
      const written = place.querySelector('.written');
      if (written) written.textContent = ago(one.age);
    }
  }
  byId('all').hidden = state.runs.length < 2;
  byId('notes').innerHTML = state.notes;
  byId('lost').hidden = true;
}

let busy = false;
async function refresh() {
  if (busy) return;
  busy = true;
  try { await update(); } catch (error) { byId('lost').hidden = false; }
  busy = false;
}

async function again() {
  if (!document.hidden) await refresh();
  setTimeout(again, 2000);
}
again();
"""
"""Asks what has changed, every two seconds, and replaces that alone."""


def frame(given: str) -> str:
    """Returns the page before any run is in it.

    Args:
        given: The folders that are watched, as text.
    """
    subtitle = f"Runs in <code>{escape(given)}</code>; this page follows them."
    return document("Runs", subtitle, [_BODY], _STYLE)


def notes(remarks: list[str]) -> str:
    """Returns remarks as HTML."""
    return "".join(map(note, remarks))


def _head(one: Watched) -> str:
    run, length = one.run, planned(one.run)
    seed = f" · seed {escape(run.settings['seed'])}" if "seed" in run.settings else ""
    done = f"{run.frames:,}{f' of {length:,}' if length else ''} {run.clock}"
    share = f"{min(100.0, 100 * run.frames / length):.2f}" if length else "0"
    return (
        f"<h2>{escape(title(run))}</h2><p><code>{escape(run.logdir)}</code>{seed}</p>"
        f'<div class="bar"><i style="width:{share}%"></i></div>'
        f"<p>{done} in {format_seconds(run.seconds)}, time left {_left(run)}; last written "
        f'<span class="written"></span></p>{notes(list(one.remarks))}'
    )


def _row(one: Watched) -> str:
    """The run's line in the table of all."""
    run, length = one.run, planned(one.run)
    share = f"{min(run.frames / length, 1):.0%}" if length else f"{run.frames:,}"
    speed = _last(run, f"time/{run.clock}_per_s")
    cells = [_return(run), _number(_last(run, "random/return_mean")), share,
             _number(speed), _left(run)]  # fmt: skip
    numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
    seed = f", seed {run.settings['seed']}" if "seed" in run.settings else ""
    name = f"{run.logdir.name}: {title(run)}{seed}"
    return (
        f'<th><a href="#run-{one.key}">{escape(name)}</a></th>{numbers}'
        '<td class="number written"></td>'
    )


def _return(run: RunData) -> str:
    mean = _last(run, "eval/return_mean")
    if mean == mean:
        return _number(mean)
    newest = run.scores.values[-10:]
    return f"{_number(float(np.mean(newest)))} (training)" if len(newest) else ""


def _last(run: RunData, name: str) -> float:
    return run.metrics[name].last if name in run.metrics else float("nan")


def _number(value: float) -> str:
    return f"{value:,.1f}" if np.isfinite(value) else ""


def _left(run: RunData) -> str:
    length, speed = planned(run), _last(run, f"time/{run.clock}_per_s")
    if length and run.frames >= length:
        return "none"
    return format_seconds((length - run.frames) / speed) if length and speed > 0 else "?"


def _films(one: Watched) -> str:
    """Every newest video; the time in the address makes a new one load."""
    figures = []
    for name, (frames, path) in sorted(one.run.videos.items()):
        address = f"/video/{one.key}/{quote(name, safe='')}?at={frames}"
        player = (
            f'<img src="{address}" alt="{escape(name)}">' if path.suffix == ".gif"
            else f'<video src="{address}" autoplay loop muted playsinline></video>'
        )  # fmt: skip
        figures.append(video_figure(name, frames, one.run.clock, player))
    return f'<div class="videos">{"".join(figures)}</div>' if figures else ""


def _lines(one: Watched) -> str:
    """The last lines that the run has printed."""
    run = one.run
    ticks = run.metrics.get(f"time/{run.clock}_per_s")
    if ticks is None:
        return note("No line of the log yet.")
    lines = []
    for now in ticks.frames[-LAST_LINES:]:
        newest = {}
        for name, curve in run.metrics.items():
            place = int(np.searchsorted(curve.frames, now, side="right")) - 1
            if place >= 0:
                newest[name] = float(curve.values[place])
        lines.append(progress_line(newest, int(now), planned(run) or 0, run.clock).plain)
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


PARTS: dict[str, Callable[[Watched], str]] = {
    "row": _row,
    "head": _head,
    "curve": lambda one: learning_curve(one.run, _CURVE),
    "films": _films,
    "lines": _lines,
    "time": lambda one: shares_of_time(one.run),
    "metrics": lambda one: "".join(metric_sections(one.run)),
}
"""The parts of a run that are replaced one by one."""


def age(one: Watched) -> float:
    """Returns the seconds since a run has written anything."""
    return time.time() - one.written
