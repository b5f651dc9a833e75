"""Data sets, downloads, class names and photos: where private batches come from."""
