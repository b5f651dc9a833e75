// The player: takes what the app sends, keeps the clock, and draws columns and timeline.

import { el, reducedMotion, rem, setAttribute, setText, svg } from "./dom.js";
import { NoteColumn, StillColumn, TONES, TrackColumn } from "./columns.js";
import { LONGEST, opposite, rateOf, scaleWords, secondsText, SHORTEST, stageAt } from "./model.js";
import { Timeline } from "./timeline.js";

const NARROW = 50; // rem of width below which columns stand below each other; as in player.css
const PAUSE = 1.2; // seconds at the end before a loop begins again
const VERDICTS = Object.entries(TONES).map(([words, tone]) => [tone, words]);
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const ICONS = {
  play: "M7 4l13 8-13 8z",
  pause: "M6 4h4v16H6zM14 4h4v16h-4z",
  back: "M7 5h2.5v14H7zM19 5v14l-9-7z",
  forward: "M14.5 5H17v14h-2.5zM5 5l9 7-9 7z",
  loop: "M7 7h9V4l5 4.5-5 4.5v-3H9v4H7zM17 17H8v3l-5-4.5L8 11v3h7v-4h2z",
};
const feeds = (globalThis.deepleakFeeds ??= new Map());
const players = new Set();

class Player {
  constructor(root) {
    this.host = root.host ?? root;
    this.columns = [];
    Object.assign(this, { time: 0, speed: 1, playing: false, loop: false, start: 0, end: 0, calls: 0, signature: null });
    this.build();
    root.append(this.element);
    this.sizes = new ResizeObserver(() => this.layout());
    this.sizes.observe(this.element);
    this.onFeed = (event) => event.detail === this.data?.key && this.hear();
    this.onKey = (event) => this === active() && this.press(event);
    document.addEventListener("deepleak-feed", this.onFeed);
    document.addEventListener("keydown", this.onKey);
    players.add(this);
  }

  destroy() {
    players.delete(this);
    this.pause();
    this.sizes.disconnect();
    document.removeEventListener("deepleak-feed", this.onFeed);
    document.removeEventListener("keydown", this.onKey);
    for (const column of this.columns) column.remove();
    this.element.remove();
  }

  // ------------------------------------------------------------------------------------------------ elements

  build() {
    this.timeline = new Timeline((time) => this.seek(time));
    this.row = el("div", { class: "columns" });
    this.stage = el("p", { class: "stage", role: "status" });
    this.legend = el("p", { class: "legend" }, ...VERDICTS.map(([tone, words]) => el("span", { class: tone }, words)));
    this.clock = el("b");
    this.scale = el("span", { class: "scale" });
    this.badge = el("span", { class: "badge" }, "live");
    const bar = el("div", { class: "bar" }, this.controls(), el("p", { class: "clock" }, this.clock, this.badge, this.scale), this.timeline.element);
    this.player = el("div", { class: "player", role: "group", "aria-label": "Player" }, this.row, el("div", { class: "said" }, this.stage, this.legend), bar);
    this.element = el("div", { class: "frame", onpointerdown: () => touched(this) }, this.player);
  }

  controls() {
    this.back = this.button("back", "One picture back (left arrow)", () => this.step(-1));
    this.toggle = this.button("play", "Play (space)", () => this.playOrPause());
    this.toggle.classList.add("main");
    this.forward = this.button("forward", "One picture on (right arrow)", () => this.step(1));
    const options = SPEEDS.map((speed) => el("option", { value: speed, selected: speed === 1 }, `${{ 0.25: "¼", 0.5: "½" }[speed] ?? speed}×`));
    this.rate = el("select", { class: "speed", "aria-label": "Speed", title: `Speed: at 1× a replay takes ${SHORTEST} to ${LONGEST} seconds`, onchange: () => this.setSpeed() }, ...options);
    this.again = this.button("loop", "Repeat", () => this.setLoop(!this.loop));
    return el("div", { class: "controls" }, this.back, this.toggle, this.forward, this.rate, this.again);
  }

  button(icon, words, onclick) {
    const drawing = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[icon] }));
    return el("button", { type: "button", class: icon, "aria-label": words, title: words, onclick }, drawing);
  }

  // ------------------------------------------------------------------------------------------ what the app sends

  receive(data, send) {
    this.send = send;
    if (data.stamp === this.data?.stamp) return this.timeline.draw(); // the theme has changed, or nothing
    if (data.loop !== this.data?.loop) this.setLoop(data.loop);
    this.data = data;
    if (data.height) this.element.style.setProperty("--height", data.height);
    else this.element.style.removeProperty("--height");
    this.load(data);
  }

  // All columns change in the same moment, once every picture is decoded.
  async load(data) {
    const call = ++this.calls;
    const columns = data.columns.map((column, n) => this.column(column, n));
    const take = await Promise.all(columns.map((column, n) => column.load(data.columns[n])));
    if (call !== this.calls) return;
    this.arrange(columns);
    take.forEach((change) => change());
    this.settled = data.stamp;
    await this.hear();
    if (call === this.calls) this.adopt();
  }

  // A column of the same kind in the same place is kept, with the pictures that it shows.
  column(data, n) {
    const there = this.columns[n];
    if (there?.data?.kind === data.kind) return there;
    if (data.kind === "still") return new StillColumn((image, choice) => this.send("click", { column: n, image, choice }));
    if (data.kind === "note") return new NoteColumn(this.host, n);
    return new TrackColumn(data.curve, () => this.paint());
  }

  arrange(columns) {
    for (const column of this.columns) if (!columns.includes(column)) column.remove();
    columns.forEach((column, n) => {
      if (this.row.children[n] !== column.element) this.row.insertBefore(column.element, this.row.children[n] ?? null);
    });
    this.columns = columns;
  }

  get tracks() {
    return this.columns.filter((column) => column instanceof TrackColumn);
  }

  // News belongs to the columns of the same stamp: what arrives before them waits for them.
  async hear() {
    const news = feeds.get(this.data.key);
    if (!news || news.stamp !== this.settled) return;
    const tracks = Object.entries(news.tracks).map(([n, track]) => [this.columns[n], track]);
    const take = await Promise.all(tracks.map(([column, track]) => column.hear(track)));
    if (feeds.get(this.data.key) !== news || news.stamp !== this.settled) return;
    take.forEach((change) => change());
    this.adopt();
  }

  // Where the clock stands after a change: a run that has just ended stays at its end, another one may start to play.
  adopt() {
    const wasLive = this.live, signature = this.tracks.map((track) => track.key).join("|");
    this.live = this.tracks.some((track) => track.live);
    const changed = signature !== this.signature;
    this.signature = signature;
    this.measure();
    if (changed || this.live) this.pause();
    if (changed) this.time = this.end;
    this.drawTimeline();
    this.layout();
    if (changed && this.ready && this.data.autoplay && !wasLive && !reducedMotion()) this.play();
  }

  measure() {
    const runs = this.tracks.map((track) => track.run).filter(Boolean);
    this.moments = [...new Set(runs.flatMap((run) => run.frames.map((frame) => frame.t)))].sort((a, b) => a - b);
    this.start = this.moments[0] ?? 0;
    this.end = Math.max(this.moments.at(-1) ?? 0, ...this.tracks.map((track) => track.live?.t ?? 0));
    this.pace = rateOf(this.end - this.start);
    this.ready = this.moments.length > 1 && !this.live;
    this.stages = runs.flatMap((run) => run.stages).sort((a, b) => a.t - b.t);
  }

  drawTimeline() {
    const shown = this.tracks.filter((track) => track.curve().length);
    const curves = shown.map((track) => ({ n: track.n, points: track.curve() }));
    const scored = shown.length > 0 && shown.every((track) => (track.live ? track.live.psnr.length : track.run.frames[0].mean != null));
    const baseline = scored ? shown.map((track) => (track.live ?? track.run).baseline).find((value) => value != null) : null;
    this.timeline.setData({ curves, baseline, scored, stages: this.stages, start: this.live ? 0 : this.start, end: this.end, live: this.live });
    for (const track of this.tracks) track.mark(this.tracks.length > 1);
    for (const control of [this.back, this.toggle, this.forward, this.rate, this.again]) control.disabled = !this.ready;
    this.element.classList.toggle("live", this.live);
    this.paint();
  }

  // -------------------------------------------------------------------------------------------------- the clock

  playOrPause() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (!this.ready) return;
    if (this.time >= this.end) this.time = this.start;
    this.playing = true;
    this.rest = 0;
    this.last = performance.now();
    this.frame = requestAnimationFrame((now) => this.tick(now));
    this.paint();
  }

  pause() {
    cancelAnimationFrame(this.frame);
    this.playing = false;
    this.paint();
  }

  // A tab in the background gets no ticks: it goes on where it was.
  tick(now) {
    const passed = Math.min(0.25, (now - this.last) / 1000);
    this.last = now;
    if (this.time < this.end) this.time = Math.min(this.end, this.time + passed * this.pace * this.speed);
    else if (!this.loop) return this.pause();
    else if ((this.rest += passed) > PAUSE) [this.time, this.rest] = [this.start, 0];
    this.frame = requestAnimationFrame((next) => this.tick(next));
    this.paint();
  }

  seek(time) {
    if (!this.ready) return;
    this.time = Math.min(this.end, Math.max(this.start, time));
    this.rest = 0;
    this.paint();
  }

  step(direction) {
    if (!this.ready) return;
    this.pause();
    const near = 1e-6, there = direction > 0
      ? this.moments.find((moment) => moment > this.time + near)
      : this.moments.findLast((moment) => moment < this.time - near);
    this.seek(there ?? (direction > 0 ? this.end : this.start));
  }

  setSpeed() {
    this.speed = Number(this.rate.value);
    this.rate.blur(); // so that the arrow keys step again
    this.paint();
  }

  setLoop(on) {
    this.loop = on;
    this.again.setAttribute("aria-pressed", on);
  }

  // Space and arrows belong to whatever has the focus, where that uses them itself.
  press(event) {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || !this.ready) return;
    const target = event.composedPath()[0], plot = target === this.timeline.element;
    const act = {
      " ": () => this.playOrPause(),
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      Home: plot && (() => this.seek(this.start)),
      End: plot && (() => this.seek(this.end)),
    }[event.key];
    if (!act || (!plot && usesKey(target, event.key))) return;
    event.preventDefault();
    act();
  }

  // ---------------------------------------------------------------------------------------------------- drawing

  layout() {
    const narrow = this.element.clientWidth < NARROW * rem();
    this.element.classList.toggle("narrow", narrow);
    this.element.classList.toggle("blending", this.tracks.some((track) => track.blends));
    this.element.classList.toggle("gauging", this.tracks.some((track) => track.data.gauge));
    const noted = this.columns.some((column) => column.noted), weights = this.columns.map(({ data }) => `minmax(0, ${data.weight}fr)`);
    this.row.style.setProperty("--widths", weights.join(" "));
    const rooms = narrow ? this.columns.map((column) => column.room()) : opposite(this.columns.map((column) => column.room()));
    const resized = (others) => this.columns.map((column, n) => column.resize(rooms[n], { stacked: narrow, noted, others }));
    resized(Infinity);
    const used = resized(Math.min(...this.columns.map((column) => column.grid?.side ?? Infinity)));
    // Pictures that the height limits leave space: notes beside them get it.
    if (used.includes(null)) this.row.style.setProperty("--widths", used.map((width, n) => (width ? `${width}px` : weights[n])).join(" "));
    this.timeline.draw();
  }

  paint() {
    if (!this.data) return;
    const tracks = this.tracks, moments = tracks.map((track) => track.at(this.time));
    const named = (name) => moments[tracks.findIndex((track) => name && track.data.name === name)];
    tracks.forEach((track, n) => track.show(moments[n], named(track.data.against)));
    this.timeline.setTime(this.time);
    this.paintWords();
  }

  paintWords() {
    const time = this.live ? this.end : this.time, words = this.moments?.length || this.live ? secondsText(time) : "";
    setText(this.clock, words);
    setText(this.scale, this.ready ? scaleWords(this.end, this.end - this.start, this.pace, this.speed) : "");
    const said = this.live ? this.tracks.find((track) => track.live)?.live.sentence : stageAt(this.stages ?? [], time)?.sentence;
    setText(this.stage, said ?? "");
    setAttribute(this.stage, "title", said || null);
    this.legend.classList.toggle("shown", this.tracks.some((track) => track.judged));
    this.toggle.querySelector("path").setAttribute("d", this.playing ? ICONS.pause : ICONS.play);
    for (const name of ["aria-label", "title"]) setAttribute(this.toggle, name, this.playing ? "Pause (space)" : "Play (space)");
    this.timeline.describe(`${words} of ${secondsText(this.end)}`, !this.ready);
    this.element.classList.toggle("playing", this.playing);
  }
}

// Whether the focused element answers to this key itself.
function usesKey(target, key) {
  if (!(target instanceof Element)) return false;
  const typed = "input, textarea, select, [contenteditable=true], [role=combobox], [role=listbox], [role=radio], [role=slider], [role=tab], [role=menuitem], [role=option], [role=dialog] *";
  return Boolean(target.closest(key === " " ? `${typed}, button, a, summary, [role=button]` : typed));
}

let last = null;

function touched(player) {
  last = player;
}

// The player that keys go to: the one used last, else the first on the page.
function active() {
  return players.has(last) ? last : players.values().next().value;
}

const mounted = new WeakMap();

// Streamlit calls this at every change of data or theme, and the function it returns when the element goes. A call that
// a newer one has overtaken is cleaned up as well: that must not take the newer one's player away.
export default function mount({ data, parentElement, setTriggerValue }) {
  let held = mounted.get(parentElement);
  if (!held) mounted.set(parentElement, (held = { player: new Player(parentElement), calls: 0 }));
  const call = ++held.calls;
  held.player.receive(data, setTriggerValue);
  return () => {
    if (call !== held.calls) return;
    held.player.destroy();
    mounted.delete(parentElement);
  };
}
