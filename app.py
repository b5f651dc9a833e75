"""DeepLeak in the browser: page settings and navigation. Start it with `streamlit run app.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent
ASSETS = ROOT / "assets"
LIGHT = ("", "gallery", "how_it_works", "tour")  # pages that show something before they need PyTorch, or never need it


def main() -> None:
    """Draw the page that the address names."""
    import streamlit as st

    from ui import address, shell, tour

    st.set_page_config(page_title="DeepLeak", page_icon=str(ASSETS / "icon.svg"), layout="wide")
    st.logo(str(ASSETS / "logo.svg"), size="large")
    pages = [
        st.Page(ROOT / "pages/live_attack.py", title="Live attack", default=True),
        st.Page(ROOT / "pages/label_inference.py", title="Label inference"),
        st.Page(ROOT / "pages/one_wrong_label.py", title="One wrong label"),
        st.Page(ROOT / "pages/same_label_fusion.py", title="Same-label fusion"),
        st.Page(ROOT / "pages/gradinversion.py", title="GradInversion"),
        st.Page(ROOT / "pages/gallery.py", title="Gallery"),
        st.Page(ROOT / "pages/how_it_works.py", title="How it works"),
        st.Page(ROOT / "pages/tour.py", title="Tour"),
    ]
    page = st.navigation(pages, position="hidden")
    shell.header(pages)
    tour.bar()
    if "distributed" in sys.modules or page.url_path in LIGHT:
        shell.run(page)
    else:
        with st.spinner("Loading PyTorch and the attack engine"):  # once, until the first page is drawn
            shell.run(page)
    address.announce(page.url_path)


if __name__ == "__main__":  # Streamlit runs this file for each visitor
    main()
elif __name__ == "app":  # `streamlit run` imports it, to serve it; worker processes import it too, by another name
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    from ui.server import ClosesPolled, announce_navigation, routes, serving

    announce_navigation()
    server = App(__file__, routes=routes(), middleware=[Middleware(ClosesPolled)], lifespan=serving)
