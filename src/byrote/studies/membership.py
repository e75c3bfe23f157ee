"""Can somebody who sees the answers tell what the network was trained on? (Carlini et al. 2022)"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Shaped
from scipy import special, stats

from byrote.data import Task
from byrote.measures import (
    Attack,
    Catch,
    MembershipRisk,
    caught_at,
    closeness,
    group_risk,
    lira,
    log_odds,
    loss_attack,
    membership_risk,
    pooled_auc,
    rmia,
    roc,
)
from byrote.records import (
    Bar,
    Bars,
    Column,
    Counts,
    Curves,
    Figure,
    Finding,
    Gallery,
    Histogram,
    Interval,
    Run,
    Section,
    Series,
    Table,
    within,
)
from byrote.scoring import typed_table
from byrote.studies.claims import NOTHING, claim
from byrote.studies.papers import CARLINI
from byrote.studies.showing import identified, shown, spread
from byrote.studies.study import (
    SUBSET_FRACTION,
    AbstractSubsetStudy,
    Outcome,
    Results,
    StudyBudget,
    describe_sample,
    inclusion_mask,
    sampled_part,
    sampled_positions,
    subset_runs,
)
from byrote.studies.wording import counted, decimal, percent_within

FEWEST = 6
"""Networks on subsets: so many that each one that is attacked leaves references of both kinds."""
NO_BETTER = 0.05
"""An AUC that is at most this far from ½ is too near to guessing to matter."""
FEW = 5
"""Members are caught too often when an attack finds more than this many times as many as guessing would."""
RATES = (0.001, 0.01)
"""Shares of the others that an attacker may wrongly accuse."""
MOST_PAIRS = 1 << 21
"""Of a network and an example; where there are more, only the first networks are attacked."""
MOST_BARS = 20
MOST_GROUPS = 500
"""Groups of the task are compared when there are no more of them."""
FALSE_EXPOSED = 0.1
"""Of the examples that are said to be exposed, at most about this share is not."""
NUM_SHOWN = 12
NUM_POINTS = 60
"""Of a curve."""
LIRA = "LiRA"


class _Success(NamedTuple):
    """How well an attack does on all networks together."""

    auc: Interval
    caught: tuple[Catch, ...]


class _Attacked(NamedTuple):
    """Every network on a subset, attacked with the help of the others."""

    mask: Bool[np.ndarray, "run example"]
    attacks: Mapping[str, Attack]
    """Those that tell members and others apart at all."""
    success: Mapping[str, _Success]
    statistic: Float[np.ndarray, "run example"]
    """What the likelihood ratio is of: log-odds of the target, for numbers minus the absolute error."""
    risk: MembershipRisk
    """By that statistic, of one example at a time."""

    @property
    def lira(self) -> Float[np.ndarray, "run example"]:
        """The likelihood-ratio attack's scores."""
        return self.attacks[LIRA].score


@final
@dataclass(frozen=True, kw_only=True)
class Membership(AbstractSubsetStudy):
    """Attack networks on random subsets, each with the others as references."""

    name: ClassVar[str] = "membership"
    fewest_subsets: ClassVar[int] = FEWEST
    question: ClassVar[str] = "Can an outsider tell what the network was trained on?"

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """How well attacks do, on whom, and how exposed each example is."""
        task, specs = results.task, subset_runs(results.task, results.learner, budget)
        part = sampled_part(task, budget.sample)
        completed, lost = results.completed(specs), results.lost(specs)
        runs = completed[: max(FEWEST, MOST_PAIRS // len(part.train))]
        attacked = _attacked(part, runs) if len(runs) >= FEWEST else None
        if attacked is None:
            return Outcome(self._empty(len(runs), lost), _unknown(task) if runs else None)
        auc, caught = attacked.success[LIRA]
        findings = (_told(auc, num_runs=len(runs)), _caught(caught, num_runs=len(runs)))
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(auc, caught),
            findings=findings,
            figures=tuple(_figures(part, attacked)),
            notes=(*self._notes(task, budget, attacked, num_left_out=len(completed) - len(runs)), *lost),
        )
        return Outcome(section, _table(task, attacked.risk, sampled_positions(task, budget.sample)))

    def _empty(self, num_runs: int, lost: tuple[str, ...]) -> Section:
        nothing = f"Attacks need at least {FEWEST} networks on random subsets, and enough examples on both sides."
        return Section(
            study=self.name,
            title=self.question,
            summary=nothing,
            findings=(_told(NOTHING, num_runs=num_runs), _caught((), num_runs=num_runs)),
            figures=(),
            notes=lost,
        )

    def _notes(self, task: Task, budget: StudyBudget, attacked: _Attacked, *, num_left_out: int) -> tuple[str, ...]:
        networks = counted(len(attacked.mask), one="network", many="networks")
        variance = {"fixed": "one for all examples", "shrunken": "each example's own, drawn towards that of all"}
        chosen = variance.get(str(attacked.attacks[LIRA].variance), "each example's own")
        notes = [
            f"Each of {networks} that were trained on {100 * SUBSET_FRACTION:.0f} % of the examples was attacked, "
            "with the others as references. The attacker knows the recipe and the example's target, sees the outputs "
            f"after training, and has as many networks. Variances of the likelihood ratio: {chosen}.",
            "Intervals hold for other networks and other examples of the same kind, all trained on subsets as these.",
        ]
        if num_left_out:
            left = counted(num_left_out, one="further network was", many="further networks were")
            notes.append(f"To save time, {left} left out: membership_risk is of fewer networks than count says.")
        if task.train.groups is not None:
            notes.append("Groups are in or out whole: an attack tells an example's group as well as the example.")
        if budget.sample is not None:
            notes.append(f"This study looks at {describe_sample(task, budget.sample)}.")
        return tuple(notes)


def _attacked(part: Task, runs: list[Run]) -> _Attacked | None:
    """None where no attack has both members and others to tell apart."""
    mask = inclusion_mask(part, runs)
    statistic = _statistic(part, runs)
    loss = np.stack([run.trace.loss[-1] for run in runs]).astype(np.float64)
    likelihood, population = _likelihoods(part, runs, loss, mask)
    attacks = {
        LIRA: lira(mask, statistic),
        "LiRA offline": lira(mask, statistic, offline=True),
        "RMIA": rmia(mask, likelihood, population=population),
        "loss alone": loss_attack(loss),
    }
    usable = {name: attack for name, attack in attacks.items() if _judges(attack, mask)}
    if LIRA not in usable:
        return None
    groups = None if part.train.groups is None or len(np.unique(part.train.groups)) < 2 else part.train.groups
    success = {
        name: _Success(
            pooled_auc(attack.score, mask, groups=groups), caught_at(attack.score, mask, rates=RATES, groups=groups)
        )
        for name, attack in usable.items()
    }
    return _Attacked(mask, usable, success, statistic, membership_risk(statistic, mask))


def _judges(attack: Attack, mask: Bool[np.ndarray, "run example"]) -> bool:
    """Whether it has scores of members and of others."""
    known = np.isfinite(attack.score)
    return bool((known & mask).any() and (known & ~mask).any())


def _statistic(part: Task, runs: list[Run]) -> Float[np.ndarray, "run example"]:
    """Log-odds of the target, for numbers minus the absolute error; NaN where an output is not finite."""
    y, rows = part.train.y, [run.trace.train_outputs.astype(np.float64) for run in runs]
    if part.regression:
        values = closeness(np.stack([outputs[:, 0] for outputs in rows]), y)
    else:
        values = np.concatenate([log_odds(special.log_softmax(outputs, axis=1)[None], y) for outputs in rows])
    return np.where(np.isfinite(values), values, np.nan)


def _likelihoods(
    part: Task, runs: list[Run], loss: Float[np.ndarray, "run example"], mask: Bool[np.ndarray, "run example"]
) -> tuple[Float[np.ndarray, "run example"], Float[np.ndarray, "run test_example"]]:
    """Log-likelihoods of the targets of training and of test examples, up to what all have in common."""
    outputs = np.stack([run.trace.test_outputs for run in runs]).astype(np.float64)
    y = part.test.y
    if part.regression:
        known = loss[~mask & np.isfinite(loss)]
        scale = 2 * max(float(known.mean()), np.finfo(np.float64).tiny) if len(known) else 1.0
        tests = (outputs[..., 0] - y) ** 2 / (np.var(part.train.y) or 1.0)
        return -loss / scale, -tests / scale
    tests = -special.log_softmax(outputs, axis=2)[:, np.arange(len(y)), y]
    return -np.maximum(loss, 0.0), -np.maximum(tests, 0.0)


def _told(auc: Interval, *, num_runs: int) -> Finding:
    known = math.isfinite(auc.value)
    return claim(
        "members-cannot-be-told",
        f"The likelihood-ratio attack tells training examples from others with an AUC of {decimal(auc)}, where 0.5 is "
        "guessing."
        if known
        else f"Attacks need at least {FEWEST} networks on random subsets, and outputs that are finite: none was made.",
        study=Membership.name,
        paper=CARLINI,
        unit="AUC",
        interval=auc,
        null=0.5,
        num_runs=num_runs,
        verdict=within(low=auc.low, high=auc.high, null=0.5, margin=NO_BETTER) if known else "inconclusive",
        least=0.0,
        most=1.0,
    )


def _caught(caught: tuple[Catch, ...], *, num_runs: int) -> Finding:
    """By the lowest rate that so many non-members resolve."""
    resolved = _resolved(caught)
    rate = resolved.false_positive_rate if resolved else RATES[-1]
    share = resolved.true_positive_rate if resolved else NOTHING
    most = FEW * rate
    return claim(
        "few-members-are-caught",
        f"Where it wrongly accuses 1 in {_rate(rate)}, the likelihood-ratio attack catches {percent_within(share)} of "
        f"the training examples, {share.value / rate:,.1f} times as many as guessing would."
        if resolved
        else f"Too few examples were left out to say how many training examples an attack catches that may wrongly "
        f"accuse 1 in {_rate(RATES[-1])}.",
        study=Membership.name,
        paper=CARLINI,
        unit="share of training examples",
        interval=share,
        null=most,
        num_runs=num_runs,
        verdict="inconclusive"
        if not resolved
        else "holds"
        if share.high <= most
        else "does not hold"
        if share.low > most
        else "inconclusive",
        least=0.0,
        most=1.0,
    )


def _resolved(caught: tuple[Catch, ...]) -> Catch | None:
    return next((one for one in caught if math.isfinite(one.true_positive_rate.value)), None)


def _rate(rate: float) -> str:
    return f"{round(1 / rate):,}"


def _summary(auc: Interval, caught: tuple[Catch, ...]) -> str:
    told = (
        "Whoever sees the outputs and can train such networks tells training examples from others with an AUC of "
        f"{decimal(auc)}, where 0.5 is guessing"
    )
    resolved = _resolved(caught)
    if resolved is None:
        return f"{told}."
    share, rate = percent_within(resolved.true_positive_rate), _rate(resolved.false_positive_rate)
    return f"{told}, and catches {share} of them where 1 in {rate} of the others is wrongly accused."


def _figures(part: Task, attacked: _Attacked) -> Iterator[Figure]:
    yield _curves(attacked)
    yield _attacks(attacked)
    yield from _by_group(part, attacked)
    yield _histogram(attacked.risk)
    exposed = _surely_exposed(attacked)
    if len(exposed):
        risk = attacked.risk.auc
        yield Gallery(
            title="The most exposed training examples",
            items=tuple(
                shown(part, place, notes=(("risk", f"{risk.value[place]:.2f} ± {risk.se[place]:.2f}"),))
                for place in map(int, exposed)
            ),
            caption="How often a network that was trained on the example is surer of its target than one that was not, "
            f"with its standard error. Of the examples that this would choose, at most {100 * FALSE_EXPOSED:.0f} % are "
            "no more exposed than by chance.",
        )


def _surely_exposed(attacked: _Attacked) -> Int[np.ndarray, "exposed"]:
    """Those whose risk is more than guessing, by Mann and Whitney's test at a false-discovery rate; the highest risk
    first, of equal ones that where the two kinds of network are furthest apart.
    """
    known = np.isfinite(attacked.statistic)
    sides = [side & known for side in (attacked.mask, ~attacked.mask)]
    inside, outside = (np.maximum(side.sum(0), 1) for side in sides)
    scatter = np.sqrt((inside + outside + 1) / (12 * inside * outside))
    risk = np.nan_to_num(attacked.risk.auc.value, nan=0.5)
    chosen = stats.false_discovery_control(special.ndtr((0.5 - risk) / scatter)) <= FALSE_EXPOSED
    means = [np.where(side, attacked.statistic, 0.0).sum(0) / np.maximum(side.sum(0), 1) for side in sides]
    order = np.lexsort((means[1] - means[0], -risk))
    return order[chosen[order]][:NUM_SHOWN]


def _curves(attacked: _Attacked) -> Curves:
    series = [_curve(name, attack, attacked.mask) for name, attack in attacked.attacks.items()]
    rates = (series[0].x[0], 1.0)
    return Curves(
        title="How many training examples attacks catch",
        x_label="share of the others wrongly accused",
        y_label="share of the training examples caught",
        series=(*series, Series(name="guessing", x=rates, y=rates)),
        log_x=True,
        log_y=True,
        caption="Both axes are logarithmic: an attack is dangerous where it is right and hardly ever wrong, at the "
        "left. All networks pooled.",
    )


def _curve(name: str, attack: Attack, mask: Bool[np.ndarray, "run example"]) -> Series:
    """Its steps, at rates that are equally far apart on a logarithmic axis."""
    curve = roc(attack.score, mask)
    fewest = 1 / max(1, int((np.isfinite(attack.score) & ~mask).sum()))
    rates = np.geomspace(fewest, 1.0, NUM_POINTS) if fewest < 1 else np.ones(1)
    places = np.searchsorted(curve.false_positive_rate, rates * (1 + 1e-9), side="right") - 1
    caught = curve.true_positive_rate[places]
    return Series(name=name, x=tuple(rates.tolist()), y=tuple(float(share) if share > 0 else None for share in caught))


def _attacks(attacked: _Attacked) -> Table:
    rows: list[tuple[str | float | None, ...]] = []
    for name, (auc, caught) in attacked.success.items():
        rows.append((name, auc.value, _ends(auc, digits=3), *(cell for one in caught for cell in _cells(one))))
    heads = [
        column
        for rate in RATES
        for column in (
            Column(name=f"caught at {100 * rate:g} %", digits=4),
            Column(name=f"within, at {100 * rate:g} %"),
        )
    ]
    others = int((np.isfinite(attacked.lira) & ~attacked.mask).sum())
    return Table(
        title="Attacks compared",
        columns=(Column(name="attack"), Column(name="AUC", digits=3), Column(name="within"), *heads),
        rows=tuple(rows),
        caption=f"95 % bands, from {others:,} answers on examples that were left out. No number where these are too "
        "few to say which threshold keeps the rate.",
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"


def _cells(caught: Catch) -> tuple[float | None, str]:
    share = caught.true_positive_rate
    return (share.value if math.isfinite(share.value) else None), _ends(share, digits=4)


def _ends(interval: Interval, *, digits: int) -> str:
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _by_group(part: Task, attacked: _Attacked) -> Iterator[Bars]:
    if not part.regression:
        names = np.array(part.classes, dtype=object)[part.train.y]
        yield _bars("class", "classes", names.astype(str), attacked)
    groups = part.train.groups
    if groups is not None and 1 < len(np.unique(groups)) <= MOST_GROUPS:
        yield _bars("group", "groups", np.asarray(groups).astype(str), attacked)


def _bars(one: str, many: str, groups: Shaped[np.ndarray, "example"], attacked: _Attacked) -> Bars:
    found = group_risk(attacked.statistic, attacked.mask, groups=groups)
    known = np.flatnonzero(np.isfinite(found.auc.value))
    highest = known[np.argsort(-found.auc.value[known], kind="stable")][:MOST_BARS]
    which = f"The {MOST_BARS} highest of {len(known):,} {many}. " if len(known) > MOST_BARS else ""
    return Bars(
        title=f"How exposed each {one} is",
        x_label="mean membership risk (AUC)",
        bars=tuple(
            Bar(
                label=str(found.group[place]),
                value=float(found.auc.value[place]),
                low=float(found.low[place]),
                high=float(found.high[place]),
                group=one,
            )
            for place in highest
        ),
        reference=0.5,
        reference_label="guessing",
        caption=f"{which}95 % intervals, for other networks on these examples.",
    )


def _histogram(risk: MembershipRisk) -> Histogram:
    edges = np.linspace(0, 1, 41)
    counts = np.histogram(risk.auc.value[np.isfinite(risk.auc.value)], bins=edges)[0]
    networks = counted(int(np.median(risk.auc.count)), one="network", many="networks")
    return Histogram(
        title="How exposed each example is",
        x_label="membership risk: AUC of telling networks that were trained on it from the others",
        y_label="training examples",
        series=(Counts(name="training examples", edges=tuple(edges.tolist()), counts=tuple(counts.tolist())),),
        log_y=True,
        caption=f"Single values scatter, also where nothing leaks: each rests on {networks} on its smaller side. "
        "Counts on a logarithmic scale.",
    )


def _table(task: Task, risk: MembershipRisk, positions: Int[np.ndarray, "example"]) -> pa.Table:
    """One row per training example of the whole task."""
    columns = {"membership_risk": risk.auc.value, "membership_risk_se": risk.auc.se}
    number = len(task.train)
    return typed_table(
        {
            **identified(task),
            **{name: spread(values, positions=positions, number=number) for name, values in columns.items()},
        }
    )


def _unknown(task: Task) -> pa.Table:
    """As `_table`, before anything is known."""
    nothing = pa.nulls(len(task.train), pa.float64())
    return typed_table({**identified(task), "membership_risk": nothing, "membership_risk_se": nothing})
