"""Foreign text reaches pages as text only: by messages, templates, and labels that are escaped."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT
from ui import messages, pieces

FILES = [*sorted((ROOT / "ui").rglob("*.py")), *sorted((ROOT / "pages").rglob("*.py")), ROOT / "app.py"]
MARKDOWN = {
    "badge", "caption", "error", "exception", "header", "info", "latex", "markdown", "metric", "subheader", "success",
    "title", "toast", "warning", "write",
}  # fmt: skip
OWN_MARKDOWN = {"ui/how_it_works/view.py", "ui/why/popover.py", "ui/messages.py"}  # their texts are the app's own
BUILT = (ast.JoinedStr, ast.BinOp)
UNSAFE_SCRIPT = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|document\.write|\beval\b")


def calls(path: Path) -> Iterator[tuple[ast.Call, str, bool]]:
    """Every call of a method or function in a file, with its name, and whether it is one of Streamlit itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, node.func.attr, getattr(node.func.value, "id", "") == "st"
        elif isinstance(node, ast.Call):
            yield node, getattr(node.func, "id", ""), False


def is_fixed(words: ast.expr) -> bool:
    """Whether an expression is a text of the program: a literal, or the name of a constant."""
    return isinstance(words, ast.Constant) or (isinstance(words, ast.Name) and words.id.isupper())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_streamlit_reads_as_markdown_or_html_is_fixed(path: Path) -> None:
    """Sentences with foreign text in them go through `ui.messages`, HTML through templates."""
    own = path.relative_to(ROOT).as_posix() in OWN_MARKDOWN
    for call, name, of_streamlit in calls(path):
        where = f"{path.name}:{call.lineno}"
        if not own and (name == "markdown" or (of_streamlit and name in MARKDOWN)):
            assert is_fixed(call.args[0]), f"{where} draws {ast.unparse(call.args[0])} as Markdown"
        if name == "html" and call.args:
            assert not isinstance(call.args[0], BUILT), f"{where} puts HTML together by itself"
        if name == "Markup" and path.name != "rendering.py":
            assert is_fixed(call.args[0]), f"{where} takes {ast.unparse(call.args[0])} for safe HTML"
        assert "unsafe_allow_html" not in {keyword.arg for keyword in call.keywords}, where


def test_templates_escape_every_value() -> None:
    templates = {file.name: file.read_text() for file in (ROOT / "ui/templates").glob("*.html")}
    assert not [name for name, text in templates.items() if re.search(r"\|\s*safe\b|autoescape", text)]


def test_scripts_set_text_as_text() -> None:
    """But for the notes of the player, which are made by templates."""
    found = {
        (file.name, use) for file in (ROOT / "ui").rglob("*.js") for use in UNSAFE_SCRIPT.findall(file.read_text())
    }
    assert found == {("columns.js", "createContextualFragment")}


@pytest.mark.parametrize(
    "text",
    [
        "![x](http://evil.invalid/a.png)", "<img src=x onerror=alert(1)>", "[link](javascript:alert(1))", ":red[x]",
        "$x^2$", ":material/home:", ":smile:", "www.evil.invalid", "someone@evil.invalid", "1. one", "- one", "# one",
        "&lt;b&gt;", "a -> b", "```", "| a |",
    ],
)  # fmt: skip
def test_a_label_shows_its_text_as_it_is(text: str) -> None:
    """Without backslashes and the mark that cannot be seen, an escaped text is the text itself."""
    escaped = messages.plain(text)
    assert escaped != text
    assert re.sub(r"\\([^\w\s])", r"\1", escaped).replace(messages.BREAK, "") == text


def test_what_cannot_be_seen_is_written_out() -> None:
    for shown in (messages.plain("a\u202eb\x00"), messages.note("a\u202eb\x00"), pieces.headline("a\u202eb\x00")):
        assert "\u202e" not in shown
        assert "\x00" not in shown
        assert "202e" in shown


def test_long_texts_are_shortened() -> None:
    assert len(messages.note("x" * 10_000)) < 1000
    assert len(messages.plain("x" * 10_000)) < 1000
