"""Format 1, of the commit before docs/upgrading.md: frozen, and never changed again."""
