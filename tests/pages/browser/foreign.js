// What only a text that was taken for Markdown or HTML makes, in the page and in its components: elements with nothing
// but the word that hostile texts mark, links and pictures that lead elsewhere, symbols, anything inside a message.
(mark) => {
  const roots = (root) => [root, ...[...root.querySelectorAll("*")].flatMap((e) => (e.shadowRoot ? roots(e.shadowRoot) : []))];
  const targets = ["href", "src", "srcset", "action", "style"];
  const leads = (e) => targets.some((name) => /evil\.invalid|javascript:/i.test(e.getAttribute(name) ?? ""));
  const made = '[onerror], [src="x"], .katex, [aria-label="home icon"], .dl-message *, .stException';
  const suspicious = (e) => e.textContent.trim() === mark || leads(e) || e.matches(made);
  const all = roots(document.body).flatMap((root) => [...root.querySelectorAll("*")]);
  return all.filter(suspicious).map((e) => e.outerHTML.slice(0, 200));
};
