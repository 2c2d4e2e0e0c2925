"""Backups: their files, taking them, and new clusters made of them."""
