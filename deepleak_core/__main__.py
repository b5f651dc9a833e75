"""`python -m deepleak_core`: the command line, see `cli`."""

import sys

from deepleak_core.cli.app import main

sys.exit(main())
