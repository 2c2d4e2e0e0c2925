"""Runs as pages: one self-contained HTML file each, and an index.

A page of another making takes the picture alone: `picture_script`, `picture_style` and, as its
data, `page_json`.
"""

from .data import page_json as page_json
from .write import picture_script as picture_script
from .write import picture_style as picture_style
from .write import write_comparisons as write_comparisons
from .write import write_pages as write_pages
