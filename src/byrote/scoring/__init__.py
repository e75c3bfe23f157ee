"""Per-example scores of runs: of those trained elsewhere from outputs, or a recorder in any loop, as tables; of those
trained here from probes.
"""

from byrote.scoring.probes import GradientNorms, InputCurvature, InputGradients
from byrote.scoring.recorder import Recorder
from byrote.scoring.scores import scores
from byrote.scoring.table import Table

__all__ = [
    "GradientNorms",
    "InputCurvature",
    "InputGradients",
    "Recorder",
    "Table",
    "scores",
]
