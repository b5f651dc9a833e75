"""The command line: `deepleak` or `python -m deepleak_core`."""
