// A grid of pictures with a caption, a figure and a small note below each; as large as its column allows.

import { el, rem, setAttribute, setText } from "./dom.js";
import { fit, fitWidth } from "./model.js";

const LINE = 1.55; // rem of a line below a picture, and of a small one; as in player.css
const SMALL = 1.25;
const GAP = 0.6;
const ALIKE = 1.1; // pictures that are larger than others by up to this factor are made as large as these
const BARE = 3; // rem of side below which pictures stand without words, and closer

export class Grid {
  constructor(onChoice) {
    this.element = el("div", { class: "grid" });
    this.tiles = [];
    this.onChoice = onChoice;
  }

  setCount(count) {
    while (this.tiles.length > count) this.tiles.pop().figure.remove();
    while (this.tiles.length < count) this.add();
  }

  add() {
    const tile = {
      canvas: el("canvas", { role: "img" }),
      name: el("span", { class: "name" }),
      figure: null,
      value: el("b"),
      note: el("small"),
      menu: null,
    };
    tile.caption = el("figcaption", {}, tile.name, tile.value);
    tile.figure = el("figure", {}, tile.canvas, tile.caption, tile.note);
    this.tiles.push(tile);
    this.element.append(tile.figure);
  }

  // `draw` paints the canvas; it is left out where the picture has not changed.
  show(place, { draw, alt, name = "", wrong = false, value = "", tone = "", verdict = "", note = "", hint = "", choices = [] }) {
    const tile = this.tiles[place];
    draw?.(tile.canvas);
    setAttribute(tile.canvas, "aria-label", alt);
    setAttribute(tile.canvas, "title", alt);
    tile.figure.classList.toggle("wrong", wrong);
    setText(tile.value, value);
    setAttribute(tile.value, "class", tone || null);
    setAttribute(tile.value, "data-verdict", verdict || null);
    setAttribute(tile.value, "title", verdict || null); // small pictures have no room for the word
    setText(tile.note, note);
    setAttribute(tile.note, "title", hint || null);
    if (choices.length) this.offer(tile, place, name, choices);
    else this.caption(tile, name);
  }

  caption(tile, name) {
    if (tile.menu) tile.menu.replaceWith(tile.name);
    tile.menu = null;
    setText(tile.name, name);
    setAttribute(tile.name, "title", name);
  }

  offer(tile, place, name, choices) {
    if (!tile.menu) {
      tile.menu = el("select", { onchange: () => this.onChoice?.(place, tile.menu.value) });
      tile.name.replaceWith(tile.menu);
    }
    const offered = choices.includes(name) ? choices : [name, ...choices];
    const known = [...tile.menu.options].map((option) => option.value);
    if (known.join("\n") !== offered.join("\n")) {
      tile.menu.replaceChildren(...offered.map((choice) => el("option", { value: choice }, choice)));
    }
    tile.menu.value = name;
    setAttribute(tile.menu, "aria-label", `Label of image ${place + 1}`);
  }

  // Sizes follow from the space of the column alone, never from what is shown: nothing moves during a run.
  resize(width, height, { stacked, small, noted, others }) {
    const unit = rem(), count = Math.max(1, this.tiles.length);
    const columns = small ? Math.max(4, Math.ceil(Math.sqrt(count))) : Math.ceil(Math.sqrt(count));
    const sized = (gap, below) => (stacked ? fitWidth(count, width, gap, columns, (small ? 8 : 22) * unit) : fit(count, width, height, gap, below));
    let gap = GAP * unit, { columns: used, side } = sized(gap, (LINE + (noted ? SMALL : 0)) * unit);
    const bare = side < BARE * unit;
    if (bare) ({ columns: used, side } = sized((gap = (GAP / 3) * unit), 0));
    if (side > others && side <= ALIKE * others) side = others;
    this.side = side;
    this.element.classList.toggle("bare", bare);
    this.element.style.setProperty("--gap", `${gap}px`);
    this.element.style.setProperty("--columns", used);
    this.element.style.setProperty("--side", `${side}px`);
    this.element.classList.toggle("noted", noted);
    this.element.classList.toggle("wide", side >= 14 * unit);
    this.element.classList.toggle("snug", side < 10 * unit);
    this.element.classList.toggle("tight", side < 7 * unit);
    this.element.classList.toggle("tiny", side < 4 * unit);
    for (const { canvas } of this.tiles) canvas.classList.toggle("smooth", canvas.width > side * devicePixelRatio);
    return used * side + (used - 1) * gap;
  }
}
