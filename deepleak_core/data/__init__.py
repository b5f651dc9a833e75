"""Data sets, own folders of images, and the private batches that are picked from them."""
