"""Colours of agents, and what the page of a benchmark adds to the style of reports."""

from __future__ import annotations

COLORS = (
    ("#2563c9", "#7aa9f7"),
    ("#c2571a", "#f0965f"),
    ("#2e8b57", "#67c592"),
    ("#8a4fbf", "#bd93ea"),
    ("#a17a06", "#dcb94c"),
    ("#c43d74", "#ee85ae"),
    ("#16899b", "#5cc3d3"),
    ("#6b7280", "#a3abb7"),
    ("#7a4a2b", "#c9a184"),
    ("#5f7a1f", "#b5cf6b"),
    ("#9c2fae", "#dd8cf0"),
    ("#1f3a6e", "#c3d0f0"),
)
"""Colour of each agent, on light and on dark screens."""


def color_class(number: int) -> str:
    """CSS class of an agent's colour; after the last colour the first comes again."""
    return f"agent{number % len(COLORS)}"


def light_color(number: int) -> str:
    """The colour itself, for pictures with a white background."""
    return COLORS[number % len(COLORS)][0]


_LIGHT = "".join(f".agent{i} {{ color: {light}; }}\n" for i, (light, _) in enumerate(COLORS))
_DARK = "".join(f".agent{i} {{ color: {dark}; }}\n" for i, (_, dark) in enumerate(COLORS))

STYLE = f"""
{_LIGHT}@media (prefers-color-scheme: dark) {{
{_DARK}}}
main {{ max-width: 1180px; }}
.pairs {{ display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(400px, 100%), 1fr)); }}
.dashed {{ stroke-dasharray: 5 3; }} .swatch.dashed {{ border-top-style: dashed; }}
svg .line.thin {{ stroke-width: 1.3; }}
svg .bar {{ fill: currentColor; }} svg .bar.other {{ stroke: currentColor; fill-opacity: 0.3; }}
svg .hatch {{ fill: url(#hatch); }} #hatch path {{ stroke: var(--card); stroke-width: 3; }}
svg .whisker {{ stroke: var(--ink); stroke-width: 1.5; fill: none; }}
svg tspan.missing {{ fill: var(--bad); font-weight: 400; }}
svg .name {{ fill: var(--ink); font-weight: 600; }} svg .group {{ font-style: italic; }}
svg .zero {{ stroke: var(--soft); }}
.definitions {{ position: absolute; width: 0; height: 0; }}
.wide {{ overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 0 10px 6px; }}
.wide:focus-visible, button:focus-visible {{ outline: 2px solid var(--eval); }}
.wide th, .wide td {{ padding: 3px 0 3px 14px; white-space: nowrap; overflow-wrap: normal; }}
.wide thead th {{ border-top: 0; vertical-align: bottom; white-space: normal; }}
.wide th:first-child {{ position: sticky; left: 0; padding-left: 0; background: var(--card);
  color: var(--ink); }}
.wide td, .wide thead th + th {{ text-align: right; font-variant-numeric: tabular-nums; }}
.wide th small {{ color: var(--soft); display: block; font-weight: 400; }}
button {{ all: unset; cursor: pointer; }}
th[aria-sort] button::after {{ content: "\\a0\\2195"; opacity: 0.45; }}
th[aria-sort="ascending"] button::after {{ content: "\\a0\\2191"; opacity: 1; }}
th[aria-sort="descending"] button::after {{ content: "\\a0\\2193"; opacity: 1; }}
h3 {{ font-size: 15px; margin: 20px 0 4px; display: flex; align-items: center; gap: 8px; }}
.missing {{ color: var(--bad); }}
"""
