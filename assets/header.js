// The link of the page that is shown: marked for screen readers, and in sight where the row of links is too narrow.
{
  let page, touched; // the page marked last; whether the visitor has moved the row since

  const named = (address) => address.split(/[?#]/)[0].split("/").pop();

  function mark() {
    const row = document.querySelector(".st-key-pages"), links = row?.querySelectorAll("a") ?? [];
    const shown = named(location.pathname);
    if (shown !== page) touched = false;
    page = shown;
    for (const link of links) {
      const here = named(link.getAttribute("href") ?? "?") === page;
      if (here && !link.ariaCurrent) link.ariaCurrent = "page";
      if (!here && link.ariaCurrent) link.ariaCurrent = null;
      if (here && !touched) center(link, row);
    }
  }

  function center(link, row) {
    const place = link.getBoundingClientRect(), frame = row.getBoundingClientRect();
    row.scrollLeft += place.left + place.width / 2 - (frame.left + frame.width / 2);
  }

  // Links arrive one by one and widen with their font: the row follows until the visitor takes it over.
  new MutationObserver(mark).observe(document, { childList: true, subtree: true });
  addEventListener("resize", mark);
  document.fonts.ready.then(mark);
  for (const kind of ["pointerdown", "wheel", "focusin"]) {
    addEventListener(kind, (event) => (touched ||= Boolean(event.target.closest?.(".st-key-pages"))), { capture: true, passive: true });
  }
}
