"""A training that somebody else runs, watched: curvature, noise of gradients, movement, in a share of its time."""

from byrote.monitoring.columns import COLUMNS
from byrote.monitoring.governor import Governor
from byrote.monitoring.monitor import Monitor, Sink
from byrote.monitoring.warned import TrajectoryWarning, Warned

__all__ = ["COLUMNS", "Governor", "Monitor", "Sink", "TrajectoryWarning", "Warned"]
