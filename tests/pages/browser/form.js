// What is wrong with the form of a page as it is drawn now: text that overlaps, is cut, or is too faint, pictures
// without words for those who cannot see them, a page wider than its window. Shadow roots are looked into.
() => {
  const faults = [];
  const short = (text) => text.trim().replace(/\s+/g, " ").slice(0, 40);

  function* elements(root) {
    for (const element of root.querySelectorAll("*")) {
      yield element;
      if (element.shadowRoot) yield* elements(element.shadowRoot);
    }
  }
  const parent = (node) => node.parentElement ?? node.getRootNode().host ?? null;
  function* upwards(element) {
    for (let at = element; at; at = parent(at)) yield at;
  }
  const all = [...elements(document)];

  // Formulas are laid out by KaTeX, drawings and charts by hand: their boxes may touch. Rotated text has no box of its own.
  const rotated = (style) => style.transform.startsWith("matrix(") && Number(style.transform.split(",")[1]) !== 0;
  const leftOut = (element) => {
    for (const at of upwards(element)) {
      if (at.matches(".katex, svg, script, style, noscript, [data-stale=true], [aria-hidden=true]:not(.dl-shell *)")) return true;
      const style = getComputedStyle(at);
      if (rotated(style) || style.visibility === "hidden" || style.display === "none" || Number(style.opacity) === 0) return true;
    }
    return false;
  };

  const aside = (element) => element.getBoundingClientRect().right < 0; // the closed menu of a phone
  const scrollsPage = (element) => element.matches("[data-testid=stMain], body, html");
  function clipped(box, element) {
    let { left, right, top, bottom } = box;
    for (const at of upwards(element)) {
      if (scrollsPage(at) || getComputedStyle(at).overflow === "visible") continue;
      const frame = at.getBoundingClientRect();
      left = Math.max(left, frame.left); right = Math.min(right, frame.right);
      top = Math.max(top, frame.top); bottom = Math.min(bottom, frame.bottom);
    }
    return { left, right, top, bottom };
  }

  // One box for each line of each text, less the space above and below its letters.
  const boxes = [];
  const texts = [];
  for (const element of all) {
    const nodes = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!nodes.length || leftOut(element) || aside(element)) continue;
    for (const node of nodes) {
      const range = document.createRange();
      range.selectNodeContents(node);
      const lines = [...range.getClientRects()].filter((box) => box.width > 1 && box.height > 1);
      if (lines.length) texts.push(element);
      for (const line of lines) {
        const { left, right, top, bottom } = clipped(line, element);
        if (right - left < 3 || bottom - top < 3) continue;
        boxes.push({ left: left + 1, right: right - 1, top: top + 0.22 * line.height, bottom: bottom - 0.22 * line.height, node, text: node.data, fixed: floats(element) });
      }
    }
  }
  function floats(element) { // above the page by intent: the header, an open menu, a message
    for (const at of upwards(element)) if (getComputedStyle(at).position === "fixed" || at.matches("[data-testid=stHeader]")) return true;
    return false;
  }
  boxes.sort((one, other) => one.top - other.top);
  boxes.forEach((one, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].top < one.bottom; j++) {
      const other = boxes[j];
      const over = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      if (one.node !== other.node && over > 2 && Math.min(one.bottom, other.bottom) - other.top > 2 && one.fixed === other.fixed) {
        faults.push(`"${short(one.text)}" overlaps "${short(other.text)}"`);
      }
    }
  });

  // Text that its own box cuts. An ellipsis is meant, except where somebody has to act on the words.
  for (const element of new Set(texts)) {
    for (const at of upwards(element)) {
      const style = getComputedStyle(at);
      if (scrollsPage(at) || style.display === "inline") continue;
      const meant = style.textOverflow === "ellipsis" && !at.closest("button, h1, h2, h3, .dl-headline, .dl-chips");
      const hides = (way) => way === "hidden" || way === "clip";
      if (hides(style.overflowX) && at.scrollWidth > at.clientWidth + 1 && at.clientWidth > 1 && !meant) faults.push(`"${short(element.textContent)}" is cut at the side`);
      if (hides(style.overflowY) && at.scrollHeight > at.clientHeight + 4 && at.clientHeight > 1 && style.webkitLineClamp === "none") faults.push(`"${short(element.textContent)}" is cut below`);
      if (at !== element && getComputedStyle(at).overflow !== "visible") break;
    }
  }

  // Contrast of text with what is behind it: 4.5, or 3 where it is large (WCAG 2.2 AA).
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  function rgba(colour) {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  }
  const mix = (front, back) => front.slice(0, 3).map((value, i) => value * front[3] + back[i] * (1 - front[3]));
  const luminance = (colour) => colour.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)).reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  function behind(element) {
    const layers = [], own = element.getBoundingClientRect();
    for (const at of upwards(element)) {
      const frame = at.getBoundingClientRect(); // what hangs out of an element is not drawn on it
      const middle = (own.top + own.bottom) / 2;
      if (middle < frame.top || middle > frame.bottom) continue;
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none" || at.tagName === "IMG") return null;
      const colour = rgba(style.backgroundColor);
      if (colour[3]) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reduceRight((back, front) => mix(front, back), rgba(getComputedStyle(document.querySelector(".stApp")).backgroundColor).slice(0, 3));
  }
  for (const element of new Set(texts)) {
    if (element.closest(":disabled, [aria-disabled=true], [data-disabled=true]")) continue;
    const style = getComputedStyle(element), back = behind(element);
    if (!back) continue;
    let opacity = 1;
    for (const at of upwards(element)) opacity *= Number(getComputedStyle(at).opacity);
    const colour = rgba(style.color);
    const front = mix([...colour.slice(0, 3), colour[3] * opacity], back);
    const [dark, light] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05), size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (contrast < least - 0.05) faults.push(`"${short(element.textContent)}" has a contrast of ${contrast.toFixed(1)}`);
  }

  for (const image of all.filter((element) => element.tagName === "IMG" && !element.hasAttribute("alt"))) faults.push(`a picture without words: ${image.className}`);
  const main = document.querySelector("[data-testid=stMain]");
  if (document.documentElement.scrollWidth > innerWidth || main.scrollWidth > main.clientWidth) faults.push("the page is wider than its window");
  return [...new Set(faults)];
}
