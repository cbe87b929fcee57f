"""What the style sheet of a comparison has beside that of report.html."""

from __future__ import annotations

MORE_CSS = """
svg .wanted { fill: var(--good); fill-opacity: .08; } svg .unwanted { fill: var(--bad); fill-opacity: .08; }
svg .corner { font-weight: 600; } svg .name { fill: var(--text); }
svg .point { stroke: var(--card); stroke-width: 1; fill-opacity: .75; }
svg .point.gain { fill: var(--good); } svg .point.loss { fill: var(--bad); } svg .point.level { fill: var(--quiet); }
svg .point.faint { fill: var(--c); fill-opacity: .35; stroke: none; }
svg .point.mean { fill: var(--c); fill-opacity: 1; }
svg .point:hover { fill-opacity: 1; stroke: var(--text); }
svg .whisk { stroke: var(--c); stroke-width: 2; } svg .error { stroke: var(--text); stroke-width: 1.4; }
.two {
  display: grid; gap: 16px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
}
.alone { max-width: 600px; }
.allowed { margin: 12px 0 0; padding: 10px 14px; border: 1px solid var(--bad); border-radius: 6px; }
.allowed p, .allowed ul { margin: 0; overflow-wrap: anywhere; } .allowed ul { padding-left: 20px; }
.sides { margin: 10px 0 0; padding: 0; list-style: none; font-size: 14px; overflow-wrap: anywhere; }
.sides b { display: inline-block; min-width: 1.4em; }
tbody tr.group th { font-weight: 600; padding-top: 14px; border-bottom-color: var(--quiet); text-align: left; }
details.part { margin-top: 14px; }
details.part > summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
details.part > summary small { color: var(--quiet); font-weight: 400; }
td.clear { font-weight: 600; }
@media (max-width: 560px) {
  table.figures :is(th, td):not(:first-child) { padding-left: 6px; }
  .two svg text { font-size: 13px; }
  table.figures small { font-size: 11px; letter-spacing: -.2px; }
}
"""
