"""The command line. A command's module is imported when the command is called, so that help comes at once."""

from byrote.cli.start import main

__all__ = ["main"]
