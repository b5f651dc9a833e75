"""Executing, scheduling, storing and exporting runs."""
