"""The report as one HTML file that needs nothing else: no server, no network, no library."""

from __future__ import annotations

import base64
import html
import json
import math
from typing import Any

import numpy as np

from digital_twin.recording.findings import LEVELS, Analysis
from digital_twin.recording.series import Plot, thin

FEW, MANY = 3000, 8000  # points of a line: of a joint's, and of another's

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #667482; --line: #d8dee5; --card: #fff; --page: #f3f5f8;
  --warn: #b26a00; --bad: #c0272d; --good: #1c7c46; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --soft: #94a2b0; --line: #34404c; --card: #1b232c;
  --page: #12181f; --warn: #f0a840; --bad: #ff6b6b; --good: #53c98a; } }
* { box-sizing: border-box } body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif } main { max-width: 1100px; margin: 0 auto; padding: 24px 16px 80px }
h1 { font-size: 24px; margin: 0 0 2px } h2 { font-size: 17px; margin: 0; display: inline }
.sub { color: var(--soft); margin: 0 0 16px } .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; margin: 12px 0;
  overflow-x: auto } .card.verdict { font-size: 17px; border-left: 5px solid var(--good) }
.card.verdict.warning { border-left-color: var(--warn) } .card.verdict.error { border-left-color: var(--bad) } .tiles { display: flex; flex-wrap: wrap; gap: 10px } .tile { background: var(--card); flex: 1 1 150px;
  border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px } .tile b { display: block; font-size: 20px }
.tile span { color: var(--soft); font-size: 13px } details > summary { cursor: pointer; padding: 4px 0 }
table { border-collapse: collapse; width: 100%; font-size: 13.5px } th { text-align: left; color: var(--soft); font-weight: 600 }
th, td { padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums } .warning { color: var(--warn) } .error { color: var(--bad) } p.verdict { color: inherit }
.plot { margin: 14px 0 4px } .plot b { font-size: 14px } .plot small { color: var(--soft) } canvas { width: 100%; height: 190px;
  display: block; cursor: crosshair; touch-action: none } .key { font-size: 12.5px; color: var(--soft); min-height: 1.4em }
.key i { display: inline-block; width: 18px; height: 3px; vertical-align: middle; margin: 0 5px 0 12px }
#strip { height: 26px; position: relative; background: var(--page); border-radius: 4px; margin: 6px 0 10px }
#strip i { position: absolute; top: 3px; bottom: 3px; width: 3px; border-radius: 2px; background: var(--soft) }
#strip i.warning { background: var(--warn) } #strip i.error { background: var(--bad) }
"""

# Lines are drawn from what is visible: for each column of pixels the least and the largest value.
SCRIPT = """
'use strict';
const COLOURS = ['#2f7ed8', '#e07b00', '#2a9d5c', '#c0399f', '#8a63d2', '#0aa5b5', '#b3923a', '#d9534f', '#5b8c2a', '#7a7a7a',
  '#a0522d', '#006d77'];
const data = JSON.parse(document.getElementById('data').textContent);
const numbers = s => new Float32Array(Uint8Array.from(atob(s), c => c.charCodeAt(0)).buffer);
const plots = [];
let view = null;  // shared by all plots over time: [from, to] in seconds, null for all
const redraw = () => plots.forEach(p => p.visible() && p.draw());
function ticks(low, high, n) {
  const raw = (high - low) / n, p = 10 ** Math.floor(Math.log10(raw)), m = raw / p;
  const step = (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10) * p, out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return [out, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}
function first(t, x) { let a = 0, b = t.length; while (a < b) { const m = (a + b) >> 1; t[m] < x ? a = m + 1 : b = m } return a }
function short(v) { return Number.isFinite(v) ? (Math.abs(v) >= 1e5 || (v && Math.abs(v) < 1e-3) ? v.toExponential(2) : +v.toPrecision(5)) : '–' }
class Plot {
  constructor(box, spec) {
    this.spec = spec; this.box = box; this.own = null; this.drag = null; this.mouse = null;
    box.innerHTML = '<b></b> <small></small><canvas></canvas><div class="key"></div>';
    box.querySelector('b').textContent = spec.title;
    box.querySelector('small').textContent = spec.unit ? '[' + spec.unit + ']' : '';
    this.canvas = box.querySelector('canvas'); this.key = box.querySelector('.key');
    const c = this.canvas;
    c.addEventListener('wheel', e => { e.preventDefault(); const [a, b] = this.range(), x = this.at(e.offsetX), k = e.deltaY < 0 ? .8 : 1.25;
      this.zoom([x - (x - a) * k, x + (b - x) * k]) }, {passive: false});
    c.addEventListener('pointerdown', e => { this.drag = [e.offsetX, e.offsetX, e.shiftKey, this.range()]; c.setPointerCapture(e.pointerId) });
    c.addEventListener('pointermove', e => { this.mouse = e.offsetX; if (this.drag) { this.drag[1] = e.offsetX;
      if (this.drag[2]) { const [a, b] = this.drag[3], d = (this.drag[0] - e.offsetX) / this.w * (b - a); this.zoom([a + d, b + d]) } } this.draw() });
    c.addEventListener('pointerup', () => { const d = this.drag; this.drag = null;
      if (d && !d[2] && Math.abs(d[1] - d[0]) > 5) this.zoom([this.at(Math.min(d[0], d[1])), this.at(Math.max(d[0], d[1]))]); else this.draw() });
    c.addEventListener('pointerleave', () => { this.mouse = null; this.draw() });
    c.addEventListener('dblclick', () => this.zoom(null));
  }
  visible() { return this.box.closest('details').open }
  load() { if (!this.lines) this.lines = this.spec.series.map(s => ({name: s.name, t: numbers(s.t), y: numbers(s.y)})); }
  whole() { this.load(); let a = Infinity, b = -Infinity;
    for (const s of this.lines) if (s.t.length) { a = Math.min(a, s.t[0]); b = Math.max(b, s.t[s.t.length - 1]) }
    return a < b ? [a, b] : [a - .5, a + .5] }
  range() { return (this.spec.time ? view || data.span : this.own || this.whole()) }
  zoom(r) { if (r && !(r[1] - r[0] > 1e-3)) return; if (this.spec.time) { view = r; redraw() } else { this.own = r; this.draw() } }
  at(px) { const [a, b] = this.range(); return a + (px - this.left) / this.w * (b - a) }
  draw() {
    this.load();
    const c = this.canvas, ratio = devicePixelRatio || 1, W = c.clientWidth, H = c.clientHeight;
    c.width = W * ratio; c.height = H * ratio;
    const g = c.getContext('2d'), css = getComputedStyle(document.body), ink = css.getPropertyValue('--soft'), rule = css.getPropertyValue('--line');
    g.scale(ratio, ratio); g.font = '11px system-ui, sans-serif'; g.lineJoin = 'round';
    const [a, b] = this.range(), left = this.left = 58, w = this.w = W - left - 8, top = 6, h = H - top - 20;
    let low = Infinity, high = -Infinity;
    for (const s of this.lines) { const i = Math.max(0, first(s.t, a) - 1), j = Math.min(s.t.length, first(s.t, b) + 1);
      for (let k = i; k < j; k++) { const v = s.y[k]; if (v < low) low = v; if (v > high) high = v } }
    if (!(low <= high)) { low = 0; high = 1 }
    const pad = (high - low) * .05 || Math.abs(high) * .05 || .5; low -= pad; high += pad;
    const X = t => left + (t - a) / (b - a) * w, Y = v => top + (high - v) / (high - low) * h;
    g.strokeStyle = rule; g.fillStyle = ink; g.lineWidth = 1; g.textAlign = 'right'; g.textBaseline = 'middle';
    const [ys, yd] = ticks(low, high, 4), [xs, xd] = ticks(a, b, Math.max(2, w / 90));
    for (const v of ys) { g.beginPath(); g.moveTo(left, Y(v)); g.lineTo(left + w, Y(v)); g.stroke(); g.fillText(Math.abs(v) >= 1e5 ? v.toExponential(1) : v.toFixed(Math.min(yd, 8)), left - 6, Y(v)) }
    g.textAlign = 'center'; g.textBaseline = 'top';
    for (const v of xs) { g.beginPath(); g.moveTo(X(v), top); g.lineTo(X(v), top + h); g.stroke(); g.fillText(v.toFixed(xd) + (this.spec.time ? ' s' : ''), X(v), top + h + 5) }
    g.save(); g.beginPath(); g.rect(left, top, w, h); g.clip(); g.lineWidth = 1.3;
    this.lines.forEach((s, n) => {
      const i = Math.max(0, first(s.t, a) - 1), j = Math.min(s.t.length, first(s.t, b) + 1);
      g.strokeStyle = COLOURS[n % COLOURS.length]; g.beginPath(); let pen = false;
      if (j - i > 4 * w) { let px = null, lo = 0, hi = 0, last = 0;
        for (let k = i; k < j; k++) { const v = s.y[k]; if (v !== v) continue; const x = Math.round(X(s.t[k]));
          if (x !== px) { if (px !== null) { g.lineTo(px, Y(hi)); g.lineTo(px, Y(lo)); g.lineTo(px, Y(last)) } px = x; lo = hi = v }
          else { if (v < lo) lo = v; if (v > hi) hi = v } last = v }
        if (px !== null) { g.lineTo(px, Y(hi)); g.lineTo(px, Y(lo)) }
      } else for (let k = i; k < j; k++) { const v = s.y[k]; if (v !== v) { pen = false; continue }
        pen ? g.lineTo(X(s.t[k]), Y(v)) : g.moveTo(X(s.t[k]), Y(v)); pen = true }
      g.stroke() });
    if (this.drag && !this.drag[2]) { g.fillStyle = 'rgba(80,130,200,.2)'; g.fillRect(this.drag[0], top, this.drag[1] - this.drag[0], h) }
    const x = this.mouse !== null && this.mouse >= left ? this.at(this.mouse) : null;
    if (x !== null) { g.strokeStyle = ink; g.beginPath(); g.moveTo(this.mouse, top); g.lineTo(this.mouse, top + h); g.stroke() }
    g.restore();
    this.key.replaceChildren(...this.lines.flatMap((s, n) => { const i = document.createElement('i'); i.style.background = COLOURS[n % COLOURS.length];
      const k = x === null ? -1 : Math.min(s.t.length - 1, first(s.t, x)); return [i, s.name + (k >= 0 ? ' ' + short(s.y[k]) : '')] }),
      x === null ? '' : '   at ' + short(x) + (this.spec.time ? ' s' : ''));
  }
}
document.querySelectorAll('.plot').forEach((box, i) => plots.push(new Plot(box, data.plots[i])));
document.querySelectorAll('details').forEach(d => d.addEventListener('toggle', redraw));
addEventListener('resize', redraw);
document.querySelectorAll('[data-t]').forEach(e => e.addEventListener('click', () => { const t = +e.dataset.t; view = [t - 2, t + 2]; redraw() }));
redraw();
"""


def _coded(x: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(x, dtype="<f4").tobytes()).decode()


def plot_data(plot: Plot) -> dict[str, Any]:
    """A plot as the page reads it."""
    lines = []
    for s in plot.series:
        order = np.argsort(s.t, kind="stable") if len(s.t) > 1 and (np.diff(s.t) < 0).any() else slice(None)
        t, y = thin(s.t[order], np.asarray(s.y, dtype=float)[order], FEW if plot.section == "Joints" else MANY)
        lines.append({"name": s.name, "t": _coded(t), "y": _coded(y)})
    over_time = "horizon" not in plot.title
    return {"title": plot.title, "unit": plot.unit, "time": over_time, "series": lines}


def page(a: Analysis, verdict: tuple[int, str], title: str) -> str:
    """The whole file."""
    sections: dict[str, list[Plot]] = {}
    for plot in a.plots:
        if any(len(s.t) for s in plot.series):
            sections.setdefault(plot.section, []).append(plot)
    ordered = [p for plots in sections.values() for p in plots]
    span = [0.0, max(a.run.duration, 1e-3)]
    data = json.dumps({"span": span, "plots": [plot_data(p) for p in ordered]}).replace("</", "<\\/")
    body = [
        f"<h1>{_e(title)}</h1><p class=sub>{_e(_subtitle(a))}</p>",
        f'<p class="card verdict {LEVELS[verdict[0]]}">{_e(verdict[1])}</p>', _tiles(a), _timeline(a),
    ]  # fmt: skip
    for name, plots in sections.items():
        is_open = "" if name == "Joints" else " open"
        inside = "".join("<div class=plot></div>" for _ in plots)
        hint = (
            " <small>drag to zoom, wheel, shift-drag to move, double click for all</small>" if name != "Joints" else ""
        )
        body.append(
            f"<details class=card{is_open}><summary><h2>{_e(name)}</h2>{hint}</summary>{_words(a, name)}{inside}</details>"
        )
    body.append(_quality(a))
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f'<meta http-equiv=Content-Security-Policy content="{policy}"><title>{_e(title)}</title><style>{STYLE}</style>'
        f'<main>{"".join(body)}</main><script type="application/json" id=data>{data}</script><script>{SCRIPT}</script></html>'
    )


def _e(text: object) -> str:
    return html.escape(str(text))


def _subtitle(a: Analysis) -> str:
    run, robot = a.run, a.run.robot
    parts = [f"robot {run.metadata.get('robot') or (robot.description.name if robot else 'not known')}"]
    if "model" in run.metadata:
        parts.append(f"model {run.metadata['model']}")
    if "digital_twin" in run.metadata:
        parts.append(f"digital_twin {run.metadata['digital_twin']}")
    if run.replayed:
        parts.append("outputs of the twin by replay")
    parts.append(str(run.path))
    return " · ".join(parts)


def _tiles(a: Analysis) -> str:
    n = a.numbers
    tiles = [(f"{a.run.duration:.1f} s", "recorded")]
    if "latency" in n:
        tiles.append((f"{n['latency']['p50_ms']:.2f} / {n['latency']['p99_ms']:.2f} ms", "sync latency p50 / p99"))
    base = n.get("estimation", {}).get("base")
    if base:
        tiles.append((f"{100 * base['position_rms_m']:.2f} cm", f"base error RMS over {base['distance_m']:.2f} m"))
        tiles.append((f"{base['attitude_rms_deg']:.2f} deg", "attitude error RMS"))
    if "command_error_rad" in n.get("tracking", {}):
        tiles.append(
            (f"{1e3 * n['tracking']['command_error_rad']['rms']:.1f} mrad", "joints behind their commands, RMS")
        )
    if "energy" in n:
        tiles.append((f"{n['energy']['work_j']:.0f} J", "mechanical work"))
    tiles.append((str(sum(e.level == 2 for e in a.events)), "errors"))
    tiles.append((str(sum(e.level == 1 for e in a.events)), "warnings"))
    return (
        "<div class=tiles>"
        + "".join(f"<div class=tile><b>{_e(v)}</b><span>{_e(k)}</span></div>" for v, k in tiles)
        + "</div>"
    )


def _timeline(a: Analysis) -> str:
    if not a.events:
        return "<div class=card><h2>Timeline</h2><p class=sub>nothing happened that a node would have told of</p></div>"
    span = max(a.run.duration, 1e-3)
    marks = "".join(
        f'<i class={LEVELS[e.level]} style="left:{100 * min(max(e.t / span, 0), 1):.3f}%" title="{_e(f"{e.t:.2f} s {e.who}: {e.what}")}" data-t={e.t:.3f}></i>'
        for e in a.events
    )
    rows = "".join(
        f"<tr data-t={e.t:.3f}><td class=n>{e.t:.2f} s<td class={LEVELS[e.level]}>{LEVELS[e.level]}<td>{_e(e.who)}<td>{_e(e.what)}"
        for e in a.events
    )
    table = f"<table><tr><th class=n>time<th>level<th>who<th>what</tr>{rows}</table>"
    is_open = " open" if len(a.events) <= 12 else ""
    return f"<div class=card><h2>Timeline</h2><div id=strip>{marks}</div><details{is_open}><summary>{len(a.events)} events</summary>{table}</details></div>"


def _words(a: Analysis, section: str) -> str:
    """What a section says before its plots."""
    n, rows = a.numbers, []
    if section == "Tracking":
        for key, what in (
            ("command_error_rad", "measured against commanded"),
            ("residual_rad", "virtual against measured"),
        ):
            if key in n.get("tracking", {}):
                x = n["tracking"][key]
                rows.append(
                    (
                        what,
                        f"{1e3 * x['rms']:.3g} mrad RMS; worst {x['worst_joint']} with {1e3 * x['worst_rms']:.3g} mrad RMS; at most {1e3 * x['largest']:.3g} mrad",
                    )
                )
    if section == "Energy":
        e = n["energy"]
        rows.append(
            (
                "work",
                f"{e['work_j']:.1f} J done, {e['absorbed_j']:.1f} J absorbed, {e['mean_power_w']:.1f} W on average, {e['peak_power_w']:.0f} W at most; most by {e['busiest_joint']}",
            )
        )
        if "cost_of_transport" in e:
            rows.append(("cost of transport", f"{e['cost_of_transport']:.2f}"))
    if section == "Forecasts" and "by_horizon" in n.get("forecast", {}):
        rows += [
            (
                f"{r['horizon_s']:g} s ahead",
                f"{1e3 * r['rmse_rad']:.2f} mrad RMSE; were nothing to move {1e3 * r['persistence_rad']:.2f}; skill {r['skill']:.2f}",
            )
            for r in n["forecast"]["by_horizon"]
        ]
    if section == "Forecasts":
        said = n.get("forecast", {}).get("reported", {})
        rows += [(f"{k}, on average", f"{v:.3g}") for k, v in said.items() if "500ms" in k or "1000ms" in k]
    if section == "Drift" and "drift" in n:
        rows.append(("verdict", f"{n['drift']['worst']}: {n['drift']['words'] or 'nothing to say'}"))
    return "<table>" + "".join(f"<tr><th>{_e(k)}<td>{_e(v)}" for k, v in rows) + "</table>" if rows else ""


def _number(x: float, digits: int = 1) -> str:
    return f"{x:.{digits}f}" if isinstance(x, int | float) and math.isfinite(x) else "–"


def _quality(a: Analysis) -> str:
    q = a.numbers["quality"]
    rows = "".join(
        f"<tr><td>{_e(r['topic'])}<td>{_e(r['type'])}<td class=n>{r['messages']}<td class=n>{_number(r['rate_hz'])}<td class=n>{r['gaps']}"
        f"<td class=n>{_number(1e3 * r['longest_gap_s'])}" for r in q["topics"]
    )  # fmt: skip
    head = "<tr><th>topic<th>type<th class=n>messages<th class=n>Hz<th class=n>gaps<th class=n>longest [ms]"
    rejected = "".join(f"<tr><td>{_e(k)}<td class=n>{v}" for k, v in sorted(q["rejected"].items()))
    notes = "".join(f"<li>{_e(note)}" for note in q["notes"])
    return (
        f"<details class=card open><summary><h2>What is in the recording</h2></summary><table>{head}{rows}</table>"
        + (f"<p><b>Refused or changed by the twin</b></p><table>{rejected}</table>" if rejected else "")
        + (f"<p><b>Notes</b></p><ul>{notes}</ul>" if notes else "")
        + "</details>"
    )
