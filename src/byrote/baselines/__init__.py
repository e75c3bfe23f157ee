"""What a network is compared with: lookup tables, forests and kernel machines."""

from byrote.baselines.fit import fit_baseline
from byrote.baselines.outputs import BaselineOutputs

__all__ = ["BaselineOutputs", "fit_baseline"]
