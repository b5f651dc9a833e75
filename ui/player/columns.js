// The columns of a player: pictures that do not change, the pictures of an attack, and notes of the app.

import { el, setAttribute, setText } from "./dom.js";
import { Grid } from "./grid.js";
import { blended, curveOf, decibels, frameAt, meanOf, notMatched, percent, psnr, repeated, signed } from "./model.js";
import { colours, countOf, decoded, drawColours, drawNoise, drawPart } from "./pictures.js";
import { swatch } from "./timeline.js";

export const TONES = { recovered: "recovered", recognisable: "recognisable", "not recovered": "lost" };

class Column {
  constructor(kind) {
    this.title = el("h3");
    this.words = [el("span"), el("span", { class: "kind" }), el("span", { class: "count" })];
    this.status = el("span", { class: "status" }, ...this.words);
    this.head = el("header", {}, this.title, this.status);
    this.progress = el("i");
    this.body = el("div", { class: "body" });
    this.foot = el("footer");
    this.element = el("section", { class: `column ${kind}` }, this.head, el("div", { class: "progress" }, this.progress), this.body, this.foot);
  }

  configure(data) {
    this.data = data;
    setText(this.title, data.title);
    setAttribute(this.element, "aria-label", data.title || null);
  }

  // The space for pictures, and how many share it.
  room() {
    return null;
  }

  resize() {
    return null;
  }

  remove() {
    this.element.remove();
  }
}

class PictureColumn extends Column {
  constructor(kind, onChoice) {
    super(kind);
    this.grid = new Grid(onChoice);
    this.more = el("p", { class: "more" });
    this.body.append(this.grid.element, this.more);
  }

  room() {
    const below = this.more.textContent ? this.more.offsetHeight : 0;
    return { count: this.grid.tiles.length, width: this.body.clientWidth, height: this.body.clientHeight - below };
  }

  // The head is as wide as the pictures, so that its words stand above them. Gives the width that is used.
  resize({ width, height }, looks) {
    const used = this.grid.resize(width, height, { ...looks, small: this.data.kind === "still" });
    this.element.style.setProperty("--used", `${Math.min(width, used)}px`);
    return used;
  }

  leftOut(count) {
    setText(this.more, count ? `and ${count} more` : "");
  }
}

export class StillColumn extends PictureColumn {
  constructor(onChoice) {
    super("still", onChoice);
  }

  // The pictures that are there stay until the new ones are decoded.
  async load(data) {
    this.configure(data);
    const key = data.pictures.join(" ");
    if (key !== this.key) this.strips = await Promise.all(data.pictures.map(decoded));
    const fresh = key !== this.key;
    this.key = key;
    return () => this.show(fresh);
  }

  show(fresh) {
    const { data, grid } = this, hidden = data.count - data.pictures.length;
    this.noted = data.notes.length > 0;
    grid.setCount(Math.max(data.pictures.length, data.count));
    this.strips.forEach((strip, place) => grid.show(place, this.tile(strip, place, fresh)));
    for (let place = data.pictures.length; place < data.pictures.length + hidden; place++) {
      grid.show(place, { draw: (canvas) => drawNoise(canvas, place), alt: `Hidden picture ${place + 1}` });
    }
    this.leftOut(data.more);
  }

  tile(strip, place, fresh) {
    const name = this.data.captions[place] ?? "", wrong = Boolean(this.data.wrong[place]);
    return {
      draw: fresh ? (canvas) => drawPart(canvas, strip, 0) : null,
      alt: `${this.data.title || "Picture"} ${place + 1}${name ? `: ${name}` : ""}${wrong ? ", wrong label" : ""}`,
      name,
      wrong,
      note: this.data.notes[place] ?? "",
      choices: this.data.choices,
    };
  }
}

// The share of the update that the pictures do not match, as a large number and a bar.
class Gauge {
  constructor() {
    this.number = el("b");
    this.bar = el("i");
    this.element = el("div", { class: "gauge" }, this.number, el("span", { title: "Share of the shared update that is not matched: squared distance over squared norm" }, "not matched"), el("div", {}, this.bar));
  }

  show(residual) {
    setText(this.number, residual == null ? "\u2013" : percent(residual));
    this.bar.style.transform = `scaleX(${Math.min(1, residual ?? 0)})`;
  }
}

export class TrackColumn extends PictureColumn {
  constructor(n, onChange) {
    super("track");
    this.n = n;
    this.onChange = onChange;
    this.share = 0;
    this.slider = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, oninput: () => this.average() });
    this.gauge = new Gauge();
    const hint = "Mixes the pictures of one label: at the right end each of them is their average";
    this.foot.append(el("label", { title: hint }, "Average", this.slider), this.gauge.element);
  }

  average() {
    this.share = Number(this.slider.value);
    this.onChange();
  }

  // Whether there is something to blend: two pictures of one label, and private images to compare the blend with.
  get blends() {
    return Boolean(this.data?.average && this.run && this.own.length && repeated(this.run.frames[0].labels).length);
  }

  // A run is taken over once all its pictures are decoded; until then what was shown stays.
  async load(data) {
    const key = data.run ? [data.run.seconds, data.run.frames.length, data.run.frames.at(-1)?.strip.slice(-80)].join() : "";
    const fresh = key !== this.key;
    const strips = fresh && data.run ? await Promise.all(data.run.frames.map((frame) => decoded(frame.strip))) : null;
    const own = fresh && data.run ? await Promise.all(data.run.private.map(decoded)) : null;
    return () => this.take(data, key, strips, own);
  }

  take(data, key, strips, own) {
    this.configure(data);
    this.run = data.run?.frames.length ? data.run : null;
    if (key !== this.key) {
      this.strips?.forEach((strip) => strip.close());
      [this.key, this.strips, this.own] = [key, strips, own?.map((strip) => colours(strip, 0)) ?? []];
    }
    if (this.run) this.leave();
    this.shown = null;
    this.noted = data.asides !== "none" || data.average;
    this.foot.classList.toggle("averaged", this.blends);
    this.foot.classList.toggle("gauged", data.gauge);
    this.leftOut(data.run?.more ?? 0);
  }

  leave() {
    this.live?.strip.close();
    this.live = null;
  }

  async hear(news) {
    const strip = news.live ? await decoded(news.live.strip) : null;
    return () => {
      this.leave();
      if (this.run) strip?.close();
      else if (strip) this.live = { ...news.live, strip };
      this.waiting = news;
    };
  }

  // The moment of attack time `t`: of a run that goes on always the newest.
  at(t) {
    if (this.live) return { ...this.live, strip: this.live.strip, place: -1, last: false };
    if (!this.run) return null;
    const place = frameAt(this.run.frames, t), frame = this.run.frames[place];
    const { names, truth } = this.run;
    return {
      ...frame,
      place,
      strip: this.strips[place],
      last: place === this.run.frames.length - 1,
      captions: frame.labels.map((label) => names[label] ?? String(label)),
      wrong: frame.labels.map((label, i) => truth.length > 0 && label !== truth[i]),
      truth,
    };
  }

  curve() {
    if (this.live) return this.live.curve;
    return this.run ? curveOf(this.run.frames) : [];
  }

  show(moment, against) {
    const key = [moment?.place, moment?.t, moment?.step, against?.t, this.share, this.waiting?.waiting, this.waiting?.share].join();
    if (key === this.shown) return;
    this.shown = key;
    this.gauge.show(moment?.residual ?? null);
    if (moment) this.showPictures(moment, against);
    else this.showNothing();
  }

  showNothing() {
    const count = Math.max(1, this.data.count), fresh = this.grid.tiles.length !== count || this.filled !== false;
    this.grid.setCount(count);
    for (let place = 0; place < count; place++) {
      const draw = fresh ? (canvas) => drawNoise(canvas, place) : null;
      this.grid.show(place, { draw, alt: `Picture ${place + 1}: nothing rebuilt yet` });
    }
    this.filled = this.judged = false;
    this.say(this.waiting?.waiting ?? "");
    this.advance(this.waiting?.share ?? 0, this.waiting?.waiting && this.waiting?.share == null);
  }

  // What stands at the right of the head; where there is little room, the figure alone.
  say(figure, kind = "", count = "") {
    [figure, kind, count].forEach((words, n) => setText(this.words[n], words));
  }

  showPictures(moment, against) {
    const count = Math.min(countOf(moment.strip), moment.captions.length || Infinity);
    const mixed = this.blends && this.share > 0 ? this.mix(moment, count) : null;
    this.grid.setCount(count);
    this.judged = Boolean(moment.last && !mixed && this.run?.outcomes.length); // at the end of a run with a ground truth
    for (let place = 0; place < count; place++) this.grid.show(place, this.tile(moment, place, mixed, against));
    this.filled = true;
    const scored = moment.mean != null;
    this.say(scored ? decibels(moment.mean) : notMatched(moment.residual), scored ? " mean" : "", this.live ? `, iteration ${moment.step}` : "");
    setAttribute(this.status, "title", notMatched(moment.residual) || null);
    this.advance(this.live ? moment.progress : 0, this.live && moment.progress == null);
  }

  tile(moment, place, mixed, against) {
    const quality = mixed ? mixed.psnr[place] : moment.psnr[place];
    const outcome = this.judged ? this.run.outcomes[place] : null;
    const name = moment.captions[place] ?? "", wrong = !this.data.hideWrong && Boolean(moment.wrong[place]);
    const words = [`Rebuilt picture ${place + 1}${name ? `: ${name}` : ""}`, wrong ? "wrong label" : "", outcome ?? ""];
    return {
      draw: mixed
        ? (canvas) => drawColours(canvas, mixed.vectors[place], mixed.side, mixed.side)
        : (canvas) => drawPart(canvas, moment.strip, place),
      alt: [...words, quality == null ? "" : decibels(quality)].filter(Boolean).join(", "),
      name,
      wrong,
      value: quality == null ? "" : decibels(quality),
      tone: TONES[outcome] ?? "",
      verdict: outcome,
      ...this.aside(moment, place, mixed, against),
    };
  }

  // The small figure below a picture, and what it says.
  aside(moment, place, mixed, against) {
    if (this.data.asides === "change" && against) {
      const before = against.psnr[place], after = moment.psnr[place];
      return before == null || after == null ? {} : { note: `gain ${signed(after - before)}`, hint: `PSNR above that of the same image in “${this.data.against}”` };
    }
    if (this.data.asides !== "to_mean" && !this.data.average) return {};
    const labels = moment.truth ?? moment.labels;
    const alone = labels.filter((label) => label === labels[place]).length < 2;
    const value = mixed ? mixed.toMean[place] : moment.toMean[place];
    return value == null || alone ? {} : { note: `to mean ${decibels(value)}`, hint: "PSNR between this picture and the mean of the private images of its label" };
  }

  // The pictures of each believed label, moved towards their average; their distances are measured here.
  mix(moment, count) {
    const side = moment.strip.height, truth = moment.truth, own = this.own;
    const vectors = blended(Array.from({ length: count }, (_, i) => colours(moment.strip, i)), moment.labels, this.share);
    const mean = (place) => meanOf(own.filter((_, i) => truth[i] === truth[place]));
    return {
      side,
      vectors,
      psnr: vectors.map((vector, i) => psnr(vector, own[i])),
      toMean: vectors.map((vector, i) => psnr(vector, mean(i))),
    };
  }

  advance(share, unknown) {
    this.element.classList.toggle("waiting", Boolean(this.live || (!this.run && this.waiting?.waiting)));
    this.element.classList.toggle("busy", Boolean(unknown));
    this.progress.style.transform = `scaleX(${share ?? 0})`;
  }

  // With several curves, each column shows which one is its own.
  mark(several) {
    this.sign?.remove();
    this.sign = several ? swatch(this.n) : null;
    if (this.sign) this.title.before(this.sign);
  }
}

// Notes stay in the page itself, where the app's style sheet reaches them, and are shown through a slot.
export class NoteColumn extends Column {
  constructor(host, n) {
    super("note");
    this.holder = el("div", { slot: `note-${n}` });
    host.append(this.holder);
    this.body.append(el("slot", { name: `note-${n}` }));
  }

  async load(data) {
    return () => {
      this.configure(data);
      if (this.html !== data.html) this.holder.replaceChildren(document.createRange().createContextualFragment(data.html));
      this.html = data.html;
    };
  }

  remove() {
    super.remove();
    this.holder.remove();
  }
}
