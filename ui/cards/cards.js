// A row of cards: pictures, a title, a note. The one whose content the page shows is marked.

import { el, setAttribute, setText } from "../player/dom.js";

const TYPES = { iVBOR: "image/png", UklGR: "image/webp" };

function card() {
  const parts = { thumbs: el("span", { class: "thumbs" }), title: el("b"), note: el("small"), pictures: "" };
  parts.button = el("button", { type: "button" }, parts.thumbs, el("span", { class: "words" }, parts.title, parts.note));
  return parts;
}

function show(parts, { title, note, pictures }) {
  setText(parts.title, title);
  setText(parts.note, note);
  setAttribute(parts.button, "title", note ? `${title}: ${note}` : title);
  if (parts.pictures === pictures.join()) return;
  parts.pictures = pictures.join();
  const images = pictures.map((text) => el("img", { alt: "", src: `data:${TYPES[text.slice(0, 5)]};base64,${text}` }));
  parts.thumbs.replaceChildren(...images);
  setAttribute(parts.thumbs, "data-count", pictures.length);
}

// Kept between calls, so that pictures do not flicker and the focus stays.
const rows = new WeakMap();

export default function cards({ data, parentElement, setTriggerValue }) {
  let row = rows.get(parentElement);
  if (!row) {
    row = { element: el("div", { class: "row", role: "group", "aria-label": "Examples" }), cards: [] };
    parentElement.append(row.element);
    rows.set(parentElement, row);
  }
  while (row.cards.length > data.cards.length) row.cards.pop().button.remove();
  data.cards.forEach((values, n) => {
    if (!row.cards[n]) row.element.append((row.cards[n] = card()).button);
    const { button } = row.cards[n];
    show(row.cards[n], values);
    button.onclick = () => setTriggerValue("picked", values.id);
    button.disabled = data.disabled;
    setAttribute(button, "aria-pressed", values.id === data.chosen);
  });
}
