"""Per-example scores of runs: of those trained elsewhere from outputs, or a recorder in any loop, as tables; of those
trained here from probes.
"""

from byrote.scoring.columns import FALSE_PAIRS
from byrote.scoring.depths import PredictionDepths
from byrote.scoring.outputs import SMALLEST
from byrote.scoring.probes import GradientNorms, InputCurvature, InputGradients
from byrote.scoring.recorder import Recorder
from byrote.scoring.scores import scores
from byrote.scoring.searches import CriticalInputs
from byrote.scoring.sensitivities import LossSensitivities
from byrote.scoring.spacing import evenly_spaced
from byrote.scoring.table import Table
from byrote.scoring.typed import kind_notes, typed_table

__all__ = [
    "FALSE_PAIRS",
    "SMALLEST",
    "CriticalInputs",
    "GradientNorms",
    "InputCurvature",
    "InputGradients",
    "LossSensitivities",
    "PredictionDepths",
    "Recorder",
    "Table",
    "evenly_spaced",
    "kind_notes",
    "scores",
    "typed_table",
]
