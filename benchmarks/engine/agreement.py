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
        error = _spread(results, case) * math.hypot(1 / math.sqrt(len(expected)), 1 / math.sqrt(len(got)))
        if abs(difference) > NEGLIGIBLE + STANDARD_ERRORS * error:
            found.append(
                f"{case}: {contender} gets {statistics.fmean(got):.3f} of the held-out examples right, the plain loop "
                f"{statistics.fmean(expected):.3f} (standard error of the difference {error:.3f})."
            )
    return found


def accuracies(results: Results, case: str, contender: str, population: int | None) -> list[float]:
    """Of every run of the round that had most; other rounds repeat its seeds."""
    return max((list(one.accuracies) for one in results.of(case, contender, population)), key=len)


def _spread(results: Results, case: str) -> float:
    """The standard deviation between runs, from all contenders' together: each of some has two runs only."""
    values = {value for one in results.measurements if one.case == case for value in one.accuracies}
    return statistics.stdev(values) if len(values) > 1 else 0.0
