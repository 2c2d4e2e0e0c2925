"""The documentation: its blocks run, its links lead somewhere, its site can be made."""
