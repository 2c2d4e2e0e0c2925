"""Scenarios: what happens to a cluster and what is expected of it, as a text for learners.

Rules of this package:

* It is pure: it reads texts and plays them, and knows neither Trio nor nodes. Who has a cluster
  gives the player a `Backend`.
* One table, `grammar.PHRASES`, says what can be written; parser, player, errors and
  docs/scenarios.md follow it.
"""

from .backend import Answer as Answer
from .backend import Backend as Backend
from .backend import NodeView as NodeView
from .grammar import PHRASES as PHRASES
from .grammar import Kind as Kind
from .grammar import Needs as Needs
from .grammar import Phrase as Phrase
from .model import Scenario as Scenario
from .model import Settings as Settings
from .model import Step as Step
from .model import Who as Who
from .parsing import ScenarioError as ScenarioError
from .parsing import parse as parse
from .playing import ScenarioFailed as ScenarioFailed
from .playing import check_playable as check_playable
from .playing import play as play
from .shipped import load as load
from .shipped import shipped_names as shipped_names
