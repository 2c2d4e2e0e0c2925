"""What a log says about the health of a cluster: findings, and what each kind means."""

from .detectors import EXPLANATIONS as EXPLANATIONS
from .detectors import Explanation as Explanation
from .detectors import findings_of as findings_of
