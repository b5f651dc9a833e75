"""The page How it works: its levels and sections, their figures, and the widgets that draw them."""
