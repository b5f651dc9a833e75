"""Seeds derived from one by purpose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepleak_core.seeds import derive_seed


@given(st.integers(0, 2**31 - 1), st.text(max_size=20), st.text(max_size=20))
def test_a_seed_depends_on_number_and_purpose_alone(seed: int, purpose: str, other: str) -> None:
    found = derive_seed(seed, purpose)
    assert found == derive_seed(seed, purpose)
    assert 0 <= found < 2**32
    assert (found == derive_seed(seed, other)) == (purpose == other)
