"""The version of the package, as recorded with every run."""

VERSION = "0.2.0"
