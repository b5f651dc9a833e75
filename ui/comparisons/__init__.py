"""Pages that run several attacks on one clock: their common frame, and what is particular to each of them."""
