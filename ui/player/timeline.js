// The timeline: a curve of quality for each attack, marks of what the attacks did, and the playhead.

import { el, rem, setAttribute, svg } from "./dom.js";
import { axisOf, decibels, HIGHEST, roundedUp, shareOf } from "./model.js";

const MARKERS = [
  "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z",
  "M-4.5-4.5H4.5V4.5H-4.5Z",
  "M0-6L5.5 4.5H-5.5Z",
  "M0-6.5L6 0L0 6.5L-6 0Z",
];
const CLOSEST = 8; // pixels between two marks that can be told apart

// How a curve looks: colour, dashes and marker differ, so that colour is never needed to tell two apart.
export function swatch(n) {
  return svg(
    "svg",
    { class: `swatch c${n % MARKERS.length}`, viewBox: "0 0 34 14", "aria-hidden": "true" },
    svg("path", { class: "line", d: "M1 7H33" }),
    svg("path", { class: "marker", d: MARKERS[n % MARKERS.length], transform: "translate(17 7)" }),
  );
}

export class Timeline {
  constructor(onSeek) {
    this.onSeek = onSeek;
    this.data = { curves: [], baseline: null, stages: [], start: 0, end: 0, live: false };
    this.time = 0;
    this.svg = svg("svg", { "aria-hidden": "true" });
    this.element = el("div", { class: "plot", role: "slider", tabindex: "0", "aria-label": "Time in the attack" }, this.svg);
    this.element.addEventListener("pointerdown", (event) => this.grab(event));
    this.element.addEventListener("pointermove", (event) => this.drag(event));
  }

  // Capturing the pointer keeps the playhead with the finger when it leaves the plot.
  grab(event) {
    if (this.data.live || event.button !== 0 || !(this.data.end > 0)) return;
    this.element.setPointerCapture(event.pointerId);
    this.drag(event);
  }

  drag(event) {
    if (!this.element.hasPointerCapture(event.pointerId)) return;
    const box = this.element.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left - this.left) / this.width));
    this.onSeek(this.data.start + share * (this.data.end - this.data.start));
  }

  setData(data) {
    this.data = data;
    this.draw();
  }

  get until() {
    return this.data.live ? roundedUp(this.data.end) : this.data.end;
  }

  x(t) {
    const span = this.until - this.data.start;
    return this.left + (span > 0 ? ((t - this.data.start) / span) * this.width : 0);
  }

  y(value) {
    return this.top + (1 - shareOf(this.axis, value)) * this.height;
  }

  // All of it anew: when the data or the size change, not while a replay goes on.
  draw() {
    const box = this.element.getBoundingClientRect(), unit = rem();
    this.short = box.width < 30 * unit;
    const right = (this.short ? 3.9 : 7.2) * unit;
    [this.left, this.top] = [3.4 * unit, 0.7 * unit];
    [this.width, this.height] = [Math.max(1, box.width - this.left - right), Math.max(1, box.height - this.top - 0.3 * unit)];
    const { curves, baseline, scored } = this.data;
    this.axis = axisOf(curves.map((curve) => curve.points), baseline, scored);
    this.head = svg("g", { class: "head" }, svg("path", { d: `M0 ${this.top - 6}V${this.top + this.height}` }));
    this.clip = svg("rect", { x: 0, y: 0, height: box.height, width: 0 });
    const past = svg("g", { "clip-path": "url(#past)" }, ...this.lines());
    const ahead = svg("g", { class: "ahead" }, ...this.lines());
    const clip = svg("clipPath", { id: "past" }, this.clip);
    this.dots = curves.map(({ n }) => svg("path", { class: `marker c${n % MARKERS.length}`, d: MARKERS[n % MARKERS.length] }));
    this.head.classList.toggle("nowhere", curves.length === 0);
    this.svg.replaceChildren(svg("defs", {}, clip), ...this.grid(), ahead, past, ...this.marks(), this.head, ...this.dots);
    this.setTime(this.time);
  }

  grid() {
    const right = this.left + this.width, lines = [];
    const label = (y, words, left) =>
      svg("text", { x: left ? this.left - 8 : right + 10, y: y + 4, "text-anchor": left ? "end" : "start" }, words);
    for (const tick of this.axis.banded ? [...this.axis.ticks, HIGHEST] : this.axis.ticks) {
      lines.push(svg("path", { class: "tick", d: `M${this.left} ${this.y(tick)}H${right}` }));
      if (this.data.scored) lines.push(label(this.y(tick), this.axis.banded && tick === HIGHEST ? `${tick}+ dB` : `${tick} dB`, true));
    }
    if (this.data.baseline != null) {
      const y = this.y(this.data.baseline);
      lines.push(svg("path", { class: "baseline", d: `M${this.left} ${y}H${right}` }));
      lines.push(label(y, this.short ? "flat grey" : `flat grey ${decibels(this.data.baseline)}`, false));
    }
    lines.push(svg("path", { class: "axis", d: `M${this.left} ${this.top + this.height}H${right}` }));
    return lines;
  }

  lines() {
    return this.data.curves.map(({ n, points }) => {
      const path = points.map(([t, value], i) => `${i ? "L" : "M"}${this.x(t).toFixed(1)} ${this.y(value).toFixed(1)}`);
      return svg("path", { class: `line c${n % MARKERS.length}`, d: path.join("") });
    });
  }

  marks() {
    let last = -Infinity;
    const found = [];
    for (const stage of this.data.stages) {
      const x = this.x(Math.max(stage.t, this.data.start));
      if (x - last < CLOSEST) continue;
      last = x;
      const title = svg("title", {}, `${stage.name}: ${stage.sentence}`);
      found.push(svg("path", { class: "mark", d: `M${x} ${this.top - 5}l4-6h-8zV${this.top + this.height}` }, title));
    }
    return found;
  }

  setTime(time) {
    this.time = time;
    if (!this.head) return;
    const x = this.x(this.data.live ? this.data.end : time);
    this.head.setAttribute("transform", `translate(${x} 0)`);
    this.clip.setAttribute("width", Math.max(0, x));
    this.dots.forEach((dot, i) => dot.setAttribute("transform", `translate(${x} ${this.y(this.valueAt(i, time))})`));
  }

  valueAt(i, time) {
    const { points } = this.data.curves[i];
    const at = this.data.live ? points.length - 1 : points.findLastIndex((point) => point[0] <= time + 1e-9);
    return points[Math.max(0, at)]?.[1] ?? 0;
  }

  describe(words, disabled) {
    setAttribute(this.element, "aria-valuemin", this.data.start.toFixed(1));
    setAttribute(this.element, "aria-valuemax", this.data.end.toFixed(1));
    setAttribute(this.element, "aria-valuenow", Math.min(this.data.end, Math.max(this.data.start, this.time)).toFixed(1));
    setAttribute(this.element, "aria-valuetext", words);
    setAttribute(this.element, "aria-disabled", disabled || null);
  }
}
