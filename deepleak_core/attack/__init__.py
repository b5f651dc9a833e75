"""Attacks: from a case and believed labels to reconstructions."""
