"""Runs as pages: one self-contained HTML file each, and an index."""

from .write import write_pages as write_pages
