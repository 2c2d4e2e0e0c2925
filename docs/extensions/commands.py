"""All commands, for the reference: `trioraft` as click has it."""

from trioraft.cli.application import application

trioraft = application()
