"""The style sheet of a run's report, for light and dark screens."""

STYLE = """
:root {
  --back: #fbfbfa; --card: #ffffff; --ink: #1d2126; --soft: #626b75; --line: #e2e4e8;
  --train: #8a94a3; --eval: #2563c9; --random: #b4552d; --metric: #2563c9; --bad: #b3261e;
  --good: #1b7a3d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #15181c; --card: #1d2127; --ink: #e8eaed; --soft: #9aa4b0; --line: #333a43;
    --train: #8a94a3; --eval: #7aa9f7; --random: #e58f63; --metric: #7aa9f7; --bad: #f2877f;
    --good: #6fcf8f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 980px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 10px; }
header p { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr));
  gap: 12px; margin: 24px 0 0;
}
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px; }
.card dt { color: var(--soft); font-size: 13px; line-height: 1.3; }
.card dd { margin: 6px 0 2px; font-size: 24px; line-height: 1.2; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.card small { color: var(--soft); display: block; line-height: 1.3; }
.card.main { border-color: var(--eval); }
.card.main dd { color: var(--eval); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px; }
figcaption { color: var(--soft); font-size: 13px; line-height: 1.4; }
figcaption b { color: var(--ink); font-weight: 600; }
figcaption .bad, .bad { color: var(--bad); }
.note { color: var(--soft); border-left: 3px solid var(--line); padding: 2px 10px; margin: 10px 0; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0;
  margin: 0 0 8px; font-size: 13px; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 6px; }
.swatch { width: 18px; height: 0; border-top: 2.5px solid currentColor; }
.swatch.dots { width: 6px; height: 6px; border: 0; border-radius: 50%; background: currentColor; }
.swatch.band { height: 10px; border: 0; background: currentColor; opacity: 0.25; }
.swatch.rule { border-top-style: dashed; }
.train { color: var(--train); } .eval { color: var(--eval); }
.random { color: var(--random); } .metric { color: var(--metric); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); fill: none; }
svg .line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
svg .line.train { stroke-width: 2.5; } svg .line.metric { stroke-width: 1.5; }
svg .dots { fill: currentColor; opacity: 0.35; }
svg .points { fill: currentColor; stroke: var(--card); stroke-width: 1.5; }
svg .band { fill: currentColor; opacity: 0.16; }
svg .whiskers { stroke: currentColor; stroke-width: 1.5; fill: none; opacity: 0.6; }
svg .rule { stroke: currentColor; stroke-width: 1.5; stroke-dasharray: 6 5; fill: none; }
.grid-of-charts { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); }
.videos { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; }
.videos figure { max-width: 100%; }
.videos video, .videos img { display: block; max-width: 100%; image-rendering: pixelated;
  border-radius: 4px; margin-bottom: 8px; }
.policy { width: 300px; } .policy video, .policy img { width: 100%; }
.strip { flex: 1 1 560px; } .strip video, .strip img { width: 100%; }
details { margin: 10px 0; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 8px 12px; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; margin: 8px 0 0; }
table { border-collapse: collapse; margin-top: 8px; width: 100%; }
th, td { text-align: left; padding: 3px 12px 3px 0; border-top: 1px solid var(--line);
  font-size: 13px; vertical-align: top; overflow-wrap: anywhere; }
.shares th { width: 1%; padding-right: 18px; } .shares td.share { width: 34%; padding-right: 0; }
.shares .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.share i { display: block; height: 12px; margin-top: 4px; border-radius: 3px; min-width: 1px;
  background: var(--metric); }
th { font-weight: 500; color: var(--soft); white-space: nowrap; }
"""
