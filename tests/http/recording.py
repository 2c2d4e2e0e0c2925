"""Recordings: what a cluster exports over some minutes, and what the alerts make of it.

Rules of this file:

* A recording is samples of real expositions, one each `STEP_S`; time in it begins at 0, as it does
  for `promtool test rules`, so what is told as a moment is moved as far.
* In virtual time the steps are as far apart as they say. What needs sockets or threads is recorded
  in real time, and its steps are stretched.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trio
import yaml

from tests.http.scraping import Scraper
from trioraft.testing.cluster import Cluster

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yaml"
STEP_S: Final = 15
JOB: Final = "trioraft"
_SAMPLE: Final = re.compile(r"^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$")


def rules() -> dict[str, dict[str, Any]]:
    """The alerts, by name."""
    content = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in content["groups"] for rule in group["rules"]}


def for_s(rule: Mapping[str, Any]) -> int:
    """How long a rule has to hold before it fires, in seconds."""
    text = rule.get("for", "0s")
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


class Recording:
    """Expositions over time.

    Args:
        now_s: the time of the world when it begins, in seconds since the epoch.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self.steps = 0
        self._now_s = now_s
        self._series: dict[str, list[str]] = {}
        asked = " ".join(rule["expr"] for rule in rules().values())
        self._wanted = set(re.findall(r"\b(?:trioraft|process)_[a-z_0-9]+", asked))

    @property
    def at(self) -> str:
        """The moment of the last step, as promtool has it."""
        return f"{(self.steps - 1) * STEP_S}s"

    def add(self, texts: Mapping[str, str | None], *, times: int = 1) -> None:
        """What each instance has exported at the next step; None: it did not answer.

        Args:
            texts: by instance.
            times: at so many steps.
        """
        for _ in range(times):
            for instance, text in texts.items():
                labels = f'job="{JOB}",instance="{instance}"'
                self._sample(f"up{{{labels}}}", 0.0 if text is None else 1.0)
                for line in (text or "").splitlines():
                    found = _SAMPLE.match(line)
                    if found is None or found[1] not in self._wanted:
                        continue
                    more = f",{found[2]}" if found[2] else ""
                    value = float(found[3])
                    if found[1].endswith("_timestamp_seconds"):
                        value -= self._now_s
                    self._sample(f"{found[1]}{{{labels}{more}}}", value)
            self.steps += 1

    def _sample(self, series: str, value: float) -> None:
        values = self._series.setdefault(series, [])
        values += ["_"] * (self.steps - len(values))
        values.append(f"{value:.9f}")

    def input_series(self) -> list[dict[str, str]]:
        """As promtool wants it."""
        return [{"series": name, "values": " ".join(found)} for name, found in self._series.items()]


class Watched:
    """A cluster in virtual time that is scraped.

    Args:
        cluster: which; its nodes are measured from here on.
        prefix: of its nodes' names as instances.
    """

    def __init__(self, cluster: Cluster, prefix: str = "") -> None:
        self.cluster = cluster
        self.recording = Recording()
        self._prefix = prefix
        self._scrapers: dict[str, Scraper] = {}
        self.texts()

    def texts(self) -> dict[str, str | None]:
        """What all export now."""
        found: dict[str, str | None] = {}
        for node_id in self.cluster.ids:
            node = self.cluster.nodes.get(node_id)
            if node is None:
                self._scrapers.pop(node_id, None)
                found[self._prefix + node_id] = None
                continue
            scraper = self._scrapers.get(node_id)
            if scraper is None or scraper.node is not node:
                scraper = self._scrapers[node_id] = Scraper(node)
            found[self._prefix + node_id] = scraper.text()
        return found

    async def go_on(self, steps: int) -> None:
        """Let time pass, and record."""
        for _ in range(steps):
            await trio.sleep(STEP_S)
            self.recording.add(self.texts())


def check(
    promtool: str, directory: Path, recording: Recording, quiet_until: str, *fire: str
) -> None:
    """See that no alert fires at first, and in the end these do.

    Args:
        promtool: the program.
        directory: for its file.
        recording: what was exported.
        quiet_until: the moment up to which none may fire.
        fire: the alerts.
    """
    tests: list[dict[str, Any]] = [
        {"expr": 'ALERTS{alertstate="firing"}', "eval_time": quiet_until, "exp_samples": []}
    ]
    for name in fire:
        assert name in rules(), f"{name} is no alert"
        tests.append(
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0',
                "eval_time": recording.at,
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        )
    content = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [
            {
                "interval": f"{STEP_S}s",
                "input_series": recording.input_series(),
                "promql_expr_test": tests,
            }
        ],
    }
    path = directory / "test.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
