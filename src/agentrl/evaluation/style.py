"""The style sheet of report.html: both colour schemes, 390 to 1280 pixels and beyond."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --card: #f7f8fa; --text: #1c2127; --quiet: #5c6673; --edge: #dde1e6; --grid: #e6e9ed;
  --good: #13703f; --bad: #b3261e; --accent: #2563c9;
  --s0: #2563c9; --s1: #d9730d; --s2: #1a8f5c; --s3: #8b4fc6;
  --s4: #c4314b; --s5: #55707f; --s6: #a8860b; --s7: #0e8a94;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1c2026; --text: #e4e8ec; --quiet: #9aa5b1; --edge: #323942; --grid: #2a3038;
    --good: #5bc88e; --bad: #f2857c; --accent: #7cb0ff;
    --s0: #6ea8ff; --s1: #ffa45c; --s2: #56c795; --s3: #c39bf0;
    --s4: #f2798d; --s5: #9db4c0; --s6: #dcc04e; --s7: #4fc6cf;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 28px 20px 60px; max-width: 1240px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif;
}
h1 { margin: 0; font-size: 24px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 36px 0 12px; font-size: 18px; }
h3 { margin: 0; font-size: 15px; }
.facts { margin: 4px 0 0; color: var(--quiet); font-size: 13px; overflow-wrap: anywhere; }
.facts span { display: inline-block; }
.facts span:not(:last-child)::after { content: " \\00b7  "; white-space: pre; }
.verdict {
  margin: 16px 0 0; padding: 10px 14px; border-left: 4px solid var(--quiet); background: var(--card);
  border-radius: 0 6px 6px 0;
}
.verdict.better { border-color: var(--good); }
.verdict.worse { border-color: var(--bad); }
.verdict p { margin: 0; }
.note { margin: 8px 0 0; color: var(--quiet); font-size: 13px; }
.pair { display: grid; gap: 16px 28px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
caption { text-align: left; font-weight: 600; padding-bottom: 6px; }
th, td {
  padding: 5px 0 5px 12px; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--edge);
}
th { font-weight: 500; color: var(--quiet); }
tbody th { color: var(--text); font-weight: 400; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.detail th, tr.detail td { color: var(--quiet); font-size: 13px; border-bottom-style: dotted; }
tr.detail th:first-child { padding-left: 16px; }
td small { color: var(--quiet); font-size: 12px; white-space: nowrap; margin-left: 6px; }
td.better b { color: var(--good); } td.worse b { color: var(--bad); } td b { font-weight: 600; white-space: nowrap; }
table.quadrants { width: auto; } table.quadrants td { min-width: 72px; }
td.best { color: var(--good); font-weight: 600; } td.worst { color: var(--bad); font-weight: 600; }
.charts { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.chart {
  margin: 0; padding: 12px 12px 6px; background: var(--card); border: 1px solid var(--edge); border-radius: 8px;
  display: flex; flex-direction: column;
}
.chart figcaption { font-weight: 600; font-size: 14px; }
.chart svg { width: 100%; height: auto; display: block; margin-top: auto; padding-top: 6px; overflow: visible; }
.legend { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 12px; color: var(--quiet); }
.key { display: inline-flex; align-items: center; gap: 5px; overflow-wrap: anywhere; }
.key i { width: 12px; height: 3px; border-radius: 2px; background: var(--c); flex: none; }
svg text { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--grid); } svg .zero, svg .axis { stroke: var(--quiet); stroke-opacity: .55; }
svg .line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
svg .mark, svg .bar { fill: var(--c); } svg .band { fill: var(--c); fill-opacity: .16; }
svg .thin { stroke-width: .8; stroke-dasharray: 4 3; }
svg .whisker { stroke: var(--c); stroke-opacity: .45; fill: none; }
svg .ring { fill: none; stroke: var(--text); stroke-width: 1.2; }
svg .hover { fill: transparent; } svg .hover:hover { fill: var(--text); fill-opacity: .07; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); }
.samples {
  margin-top: 12px;
  display: grid; gap: 16px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr));
}
.sample { padding: 14px; background: var(--card); border: 1px solid var(--edge); border-radius: 8px; min-width: 0; }
.said { margin-top: 10px; padding-left: 10px; border-left: 3px solid var(--edge); font-size: 13px; }
.said.policy { border-color: var(--accent); }
.said > b, .said > summary { font-weight: 600; font-size: 12px; color: var(--quiet); }
.said > summary { cursor: pointer; }
.said.failed > summary { color: var(--bad); }
pre {
  margin: 2px 0 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 260px; overflow-y: auto;
  font: 12px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (max-width: 560px) {
  body { padding: 18px 14px 40px; }
  td small { display: block; margin-left: 0; }
  th, td { padding-left: 8px; }
  table { font-size: 13px; }
}
@media print { pre { max-height: none; } .chart, .sample { break-inside: avoid; } }
"""
