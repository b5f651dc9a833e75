"""The networks that clients train, one family a file; each declares `Network` entries for the registry `MODELS`."""
