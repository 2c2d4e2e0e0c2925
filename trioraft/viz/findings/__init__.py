"""What a log says about the health of a cluster: findings, and what each kind means."""

from .detectors import findings_of as findings_of
from .explanations import EXPLANATIONS as EXPLANATIONS
from .explanations import Explanation as Explanation
