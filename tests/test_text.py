"""Texts for people: lists that are written and read back, quotes that stay short and harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepleak_core.text import LONGEST_QUOTE, escape, listed, printable, shorten, split_list

parts = st.text(st.sampled_from("ab,>\\ \t") | st.characters(), min_size=1, max_size=8)


@given(st.lists(parts, min_size=1, max_size=6), st.sampled_from([",", ">", "="]), st.sampled_from(["", " ", "\t "]))
def test_a_list_is_read_back_as_it_was_written(names: list[str], separator: str, space: str) -> None:
    text = f"{separator}{space}".join(escape(name, separator) for name in names)
    assert split_list(text, separator) == tuple(names)


@given(st.text(max_size=20))
def test_any_text_is_a_list(text: str) -> None:
    found = split_list(text)
    assert split_list(",".join(map(escape, found))) == found or found == ("",)


def test_what_people_write() -> None:
    assert split_list(r"C:\pets, a\,b,  two words ,") == (r"C:\pets", "a,b", "two words", "")


@given(st.text())
def test_quotes_are_short_and_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert shorten(text).isprintable()
    assert len(shorten(text)) <= LONGEST_QUOTE
    assert not text.isprintable() or len(text) > LONGEST_QUOTE or shorten(text) == text


@pytest.mark.parametrize("text", ["cat\x1b[31m", "\x07", "\x9b31m", "a\nb", "a\rb", "a\u202eb", "\udcff"])
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    assert listed([text]).isprintable()
