"""Whether all contenders learnt about the same: a guard against comparing unlike work."""

import math
import statistics

from benchmarks.engine.contenders import PLAIN
from benchmarks.engine.results import Results

STANDARD_ERRORS = 4.0
"""Differences in held-out accuracy beyond so many standard errors are not chance, at some hundred comparisons."""
NEGLIGIBLE = 0.01
"""Differences in accuracy up to this say nothing about the work done."""


def disagreements(results: Results) -> list[str]:
    """Contenders whose mean held-out accuracy is not the plain loop's, in plain words; empty when all agree."""
    found: list[str] = []
    for case, contender, population in dict.fromkeys((m.case, m.contender, m.population) for m in results.measurements):
        expected = accuracies(results, case, PLAIN.name, None)
        got = accuracies(results, case, contender, population)
        difference = statistics.fmean(got) - statistics.fmean(expected)
        error = math.hypot(_standard_error(expected), _standard_error(got))
        if abs(difference) > NEGLIGIBLE + STANDARD_ERRORS * error:
            found.append(
                f"{case}: {contender} gets {statistics.fmean(got):.3f} of the held-out examples right, the plain loop "
                f"{statistics.fmean(expected):.3f} (standard error of the difference {error:.3f})."
            )
    return found


def accuracies(results: Results, case: str, contender: str, population: int | None) -> list[float]:
    """Of every run in every round."""
    return [value for one in results.of(case, contender, population) for value in one.accuracies]


def _standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))
