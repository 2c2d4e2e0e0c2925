"""Play all eight stories of docs/elections.md by the buttons of the live page, in a real browser:
`python -m tests.live.all_stories [--nodes 3] [--pictures DIR]`. Exit code 1 if one does not end."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.viz.browser import open_browser
from tests.serve.clusters import READY, started

STORY_S_MAX = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--pictures", type=Path, help="a screenshot of each goes there")
    options = parser.parse_args(arguments)
    failed = 0
    with (
        tempfile.TemporaryDirectory() as directory,
        started(str(options.nodes), "--lab", "--data", "here", cwd=Path(directory)) as cluster,
        open_browser() as page,
    ):
        cluster.wait_for(READY)
        told = json.loads((Path(directory) / "here" / "lab.json").read_bytes())
        page.call("Page.navigate", url=f"{told['url']}/#token={told['token']}")
        page.wait("window.trioraftLive?.picture && window.trioraftLive.cluster.leader !== null")
        of_story = "[...document.querySelectorAll('.play')].map((button) => button.dataset.story)"
        for name in page.evaluate(of_story):
            button = f"document.querySelector('.play[data-story={name}]')"
            began_s = time.monotonic()
            page.evaluate(f"{button}.click()")
            while page.evaluate("window.trioraftLive.stories.playing"):
                if time.monotonic() > began_s + STORY_S_MAX:
                    break
                time.sleep(0.3)
            has_played = page.evaluate(f"{button}.dataset.played") == "true"
            failed += not has_played
            took_s = time.monotonic() - began_s
            headline = page.evaluate("document.getElementById('headline').innerText")
            print(f"{'played' if has_played else 'FAILED'}  {took_s:5.1f} s  {name}: {headline}")
            if options.pictures is not None:
                options.pictures.mkdir(parents=True, exist_ok=True)
                page.picture(options.pictures / f"{name}.png")
        failed += len(page.complaints)
        for complaint in page.complaints:
            print(complaint)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
