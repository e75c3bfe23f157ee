"""Figures as a page says them."""

import re
import statistics
from collections.abc import Iterable

from benchmarks.engine.agreement import NEGLIGIBLE, STANDARD_ERRORS, accuracies, disagreements
from benchmarks.engine.cases import CASES, Case
from benchmarks.engine.contenders import BYROTE, CONTENDERS, PLAIN, SHARED
from benchmarks.engine.results import Measurement, Results, Spread, spread
from benchmarks.engine.targets import judge

from byrote.records import SGD

BEGIN = "<!-- engine benchmark: begin (written by python -m benchmarks.engine --page) -->"
END = "<!-- engine benchmark: end -->"


def page_with(page: str, text: str) -> str:
    """The page with the text between its markers.

    Raises:
        ValueError: the page does not have both markers, each once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected {BEGIN!r} and {END!r} once each in the page. Add them where the tables belong.")
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{text}\n{END}", page, flags=re.DOTALL)


def tables(results: Results) -> str:
    """Conditions, targets, populations, contenders, notes and recipes, as Markdown."""
    makers = (_conditions, _targets, _populations, _contenders, _notes, _recipes)
    return "\n".join(make(results) for make in makers)


def _conditions(results: Results) -> str:
    machine = results.machine
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items() if number)
    left_out = f" Not installed and left out: {', '.join(results.left_out)}." if results.left_out else ""
    where = "one core, one thread" if not results.by_wall else "one GPU"
    repeats = f"{results.repeats} repeats" if results.repeats > 1 else "one repeat"
    commit = f", commit {machine.commit}" if machine.commit else ""
    return (
        f"Measured by `{results.command}` on {machine.date}{commit}: {where} of "
        f"{machine.processor} ({machine.num_cores} cores, load {machine.load:.1f} before the run), Python "
        f"{machine.python}, {packages}. Matrix-product peak: {_three(_peak(results))} GFLOP/s. Figures are medians of "
        f"{repeats} (least to most). It took {results.seconds / 60:.0f} minutes.{left_out}\n"
    )


def _targets(results: Results) -> str:
    rows = [
        (
            f"{judged.target.wanted:g}{judged.target.unit} {judged.target.meaning}",
            judged.case,
            str(judged.population),
            _three(judged.own) + judged.target.unit,
            _three(judged.shared) + judged.target.unit if judged.shared else "",
            judged.verdict,
        )
        for judged in judge(results)
    ]
    head = ("at least", "network", "population", "own orders", "shared order", "")
    return "\n".join(["### Targets\n", *_table(head, rows)])


def _populations(results: Results) -> str:
    unit = _unit(results)
    head = (
        "network",
        "contender",
        "population",
        "path",
        f"{unit} a run",
        "wall a run",
        "× plain loop",
        "of peak",
        "memory",
    )
    rows = [_population_row(results, case, contender, way) for case, contender, way in _ways(results)]
    return "\n".join(["### Populations\n", *_table(head, rows)])


def _ways(results: Results) -> Iterable[tuple[Case, str, int]]:
    cases = {case.name: case for case in CASES}
    for way in results.ways:
        for contender in (BYROTE.name, SHARED.name):
            if results.of(way.case, contender, way.population):
                yield cases[way.case], contender, way.population


def _population_row(results: Results, case: Case, contender: str, population: int) -> tuple[str, ...]:
    measured = results.of(case.name, contender, population)
    way = next(way for way in results.ways if (way.case, way.population) == (case.name, population))
    timed = "" if way.num_together == population else f" ({way.num_together} timed)"
    return (
        f"{case.name} ({case.num_parameters:,} parameters)",
        contender,
        f"{population}{timed}",
        way.method,
        *_costs(results, measured),
        _three(results.times(results.of(case.name, PLAIN.name), measured)),
        f"{_three(results.share(measured))} %",
        _memory(measured),
    )


def _contenders(results: Results) -> str:
    head = (
        "network",
        "contender",
        f"{_unit(results)} a run",
        "wall a run",
        "byrote is",
        "of peak",
        "memory",
        "held-out accuracy",
    )
    rows: list[tuple[str, ...]] = []
    for case in CASES:
        judged = [way.population for way in results.ways if way.case == case.name and way.population <= case.judged]
        for contender in CONTENDERS if judged else ():
            population = max(judged) if contender.populations else None
            if measured := results.of(case.name, contender.name, population):
                engine = results.of(case.name, BYROTE.name, max(judged))
                reached = accuracies(results, case.name, contender.name, population)
                rows.append(
                    (
                        case.name,
                        f"{contender.name}, {population}" if population else contender.name,
                        *_costs(results, measured),
                        f"{_three(results.times(measured, engine))} ×" if contender is not BYROTE else "",
                        f"{_three(results.share(measured))} %",
                        _memory(measured),
                        f"{statistics.fmean(reached):.3f} ({len(reached)} runs)",
                    )
                )
    return "\n".join(["### Contenders\n", *_table(head, rows)])


def _notes(results: Results) -> str:
    choosing = spread(way.cpu_seconds for way in results.ways)
    found = disagreements(results)
    bound = f"{NEGLIGIBLE:g} and {STANDARD_ERRORS:g} standard errors"
    agreed = f"Every contender's mean held-out accuracy is the plain loop's to within {bound}."
    return (
        f"{'**Not the same work:** ' + ' '.join(found) if found else agreed}\n\n"
        f"Not in the figures: what byrote needs to find the fastest path, {_three(choosing)} s of CPU time, once for "
        f"an architecture, a batch size and a population on a machine.\n"
    )


def _recipes(results: Results) -> str:
    measured = {one.case for one in results.measurements}
    head = ("network", "parameters", "examples", "epochs", "batch", "optimiser")
    rows = [
        (
            case.name,
            f"{case.num_parameters:,}",
            f"{case.num_train:,} of {case.source}",
            str(case.epochs),
            str(case.batch_size),
            _optimiser(case),
        )
        for case in CASES
        if case.name in measured
    ]
    return "\n".join(["### Recipes\n", *_table(head, rows)])


def _optimiser(case: Case) -> str:
    momentum = f", momentum {case.optimiser.momentum:g}" if isinstance(case.optimiser, SGD) else ""
    return f"{case.recipe_name}, learning rate {case.optimiser.lr:g}{momentum}"


def _costs(results: Results, measured: list[Measurement]) -> tuple[str, str]:
    return (
        f"{_three(spread(1000 * results.cost(one) for one in measured))} ms",
        f"{_digits(spread(1000 * one.wall_seconds for one in measured).median)} ms",
    )


def _memory(measured: list[Measurement]) -> str:
    return f"{spread(one.peak_mb for one in measured).median:.0f} MB"


def _unit(results: Results) -> str:
    return "wall" if results.by_wall else "CPU"


def _peak(results: Results) -> Spread:
    return spread(one.machine_peak / 1e9 for one in results.measurements)


def _three(figures: Spread) -> str:
    """Three significant digits: `4.21 (4.1 to 4.5)`; of a single repeat the figure alone."""
    if figures.least == figures.most:
        return _digits(figures.median)
    median, least, most = (_digits(value) for value in figures)
    return f"{median} ({least} to {most})"


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
