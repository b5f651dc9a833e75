// A table of figures whose cells are buttons. One cell is in the tab order, the arrow keys move to the others, as the
// ARIA pattern of a grid has it. All texts are set as text: class names may come from foreign folders.

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const FAINTEST = 0.06; // shade of the smallest value, so that it differs from a cell without one
const STRONG = 0.7; // shade from which the other colour of text has more contrast, at least 4.5 either way

export default function ({ data, parentElement, setTriggerValue }) {
  const focused = parentElement.querySelector("table")?.contains(deepActive(parentElement)) ? position(parentElement) : null;
  const table = make("table", { role: "grid" });
  table.append(head(data), body(data));
  table.onclick = (event) => data.locked || press(event, setTriggerValue);
  table.onkeydown = (event) => move(event, table);
  parentElement.querySelector(".map")?.remove();
  parentElement.append(framed(table, data.caption));
  const first = table.querySelector("button.chosen") ?? table.querySelector("button");
  if (first) first.tabIndex = 0;
  if (focused) focus(table, cellAt(table, ...focused), { preventScroll: true }); // a table that is drawn again keeps the focus
}

// The caption stays in place where the table is scrolled sideways.
function framed(table, caption) {
  const scroller = make("div", { class: "scroller" });
  scroller.append(table);
  const words = make("p", { id: "caption" }, caption);
  table.setAttribute("aria-labelledby", words.id);
  const frame = make("div", { class: "map" });
  frame.append(words, scroller);
  return frame;
}

function make(name, attributes = {}, text = "") {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function head({ columns, corner }) {
  const row = make("tr");
  row.append(make("th", { scope: "col", class: "corner" }, corner));
  row.append(...columns.map((title) => make("th", { scope: "col" }, title)));
  const head = make("thead");
  head.append(row);
  return head;
}

function body(data) {
  const values = data.rows.flatMap((row) => row.cells.map((cell) => cell.value)).filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const shade = (value) => (high > low ? FAINTEST + ((1 - FAINTEST) * (value - low)) / (high - low) : 1);
  const body = make("tbody");
  body.append(...data.rows.map((row) => line(row, data, shade)));
  return body;
}

function line(row, data, shade) {
  const element = make("tr");
  const title = make("th", { scope: "row" });
  const picture = make("img", { alt: "" });
  picture.src = `data:image/png;base64,${row.picture}`;
  title.append(picture, make("span", {}, row.title));
  element.append(title, ...row.cells.map((cell) => place(cell, data, shade)));
  return element;
}

function place(cell, data, shade) {
  const element = make("td");
  if (!cell.id) {
    element.append(make("span", { class: "none" }, cell.text));
    return element;
  }
  const button = make("button", { type: "button", tabindex: "-1", title: cell.words, "aria-label": cell.words });
  button.dataset.id = cell.id;
  if (cell.value !== null) {
    button.style.setProperty("--shade", `${(100 * shade(cell.value)).toFixed(0)}%`);
    button.classList.toggle("strong", shade(cell.value) > STRONG);
  }
  button.classList.toggle("awaited", cell.value === null);
  button.classList.toggle("chosen", cell.id === data.chosen);
  if (cell.id === data.chosen) button.setAttribute("aria-current", "true");
  if (data.locked) button.setAttribute("aria-disabled", "true"); // the focus may stay, unlike with `disabled`
  button.append(make("b", {}, cell.text), make("small", {}, data.marked.includes(cell.id) ? `${cell.note}, ${data.mark}` : cell.note));
  element.append(button);
  return element;
}

function press(event, setTriggerValue) {
  const button = event.target.closest("button");
  if (!button) return;
  setTriggerValue("pressed", button.dataset.id);
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  document.querySelector('[data-testid="stMain"]')?.scrollTo({ top: 0, behavior }); // where the page shows what it starts
}

function move(event, table) {
  const step = STEPS[event.key];
  const from = event.target.closest("td");
  if (!step || !from) return;
  event.preventDefault(); // the page must not scroll
  event.stopPropagation();
  let [row, column] = [from.parentElement.rowIndex, from.cellIndex];
  do [row, column] = [row + step[0], column + step[1]];
  while (cellAt(table, row, column) && !cellAt(table, row, column).querySelector("button"));
  focus(table, cellAt(table, row, column));
}

function cellAt(table, row, column) {
  const cell = table.rows[row]?.cells[column];
  return cell?.tagName === "TD" ? cell : null;
}

function focus(table, cell, how = {}) {
  const button = cell?.querySelector("button");
  if (!button) return;
  for (const other of table.querySelectorAll('button[tabindex="0"]')) other.tabIndex = -1;
  button.tabIndex = 0;
  button.focus(how);
}

function deepActive(element) {
  return element.getRootNode().activeElement;
}

function position(element) {
  const cell = deepActive(element)?.closest("td");
  return cell ? [cell.parentElement.rowIndex, cell.cellIndex] : null;
}
