"""A plot of the samples, as SVG: one strip for each figure, one line for each server."""

from __future__ import annotations

from typing import Final

from .watching import Sample

WIDTH: Final = 900
HEIGHT: Final = 120
LEFT: Final = 60
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#f0e442")
FIGURES: Final = (("rss_mb", "RSS, MB"), ("fds", "descriptors"), ("threads", "threads"),
                  ("disk_mb", "disk, MB"), ("cpu_s", "CPU, s"))  # fmt: skip


def plot(samples: list[Sample]) -> str:
    """The drawing."""
    ids = sorted({sample.node_id for sample in samples})
    until_s = max((sample.at_s for sample in samples), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" '
        f'height="{len(FIGURES) * (HEIGHT + 40) + 30}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for row, (figure, title) in enumerate(FIGURES):
        top = 30 + row * (HEIGHT + 40)
        most = max((float(getattr(sample, figure)) for sample in samples), default=1.0) or 1.0
        parts.append(f'<text x="{LEFT}" y="{top - 6}">{title}</text>')
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" '
                     'fill="none" stroke="#bbb"/>')  # fmt: skip
        parts.append(f'<text x="4" y="{top + 10}">{most:.0f}</text>')
        parts.append(f'<text x="4" y="{top + HEIGHT}">0</text>')
        for colour, node_id in zip(COLOURS, ids, strict=False):
            places = " ".join(
                f"{LEFT + WIDTH * sample.at_s / until_s:.1f},"
                f"{top + HEIGHT * (1 - getattr(sample, figure) / most):.1f}"
                for sample in samples
                if sample.node_id == node_id
            )
            parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}"/>')
    foot = len(FIGURES) * (HEIGHT + 40) + 15
    parts.append(f'<text x="{LEFT}" y="{foot}">0 to {until_s:.0f} s; a line for each server</text>')
    return "\n".join([*parts, "</svg>", ""])
