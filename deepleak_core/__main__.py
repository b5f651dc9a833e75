"""`python -m deepleak_core` runs the command line, see `cli.app`."""

import sys

from deepleak_core.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
