"""How much each study may ask for, so that a budget is kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple, final

from byrote.data import Task
from byrote.records import FitSpec, Learner, RunSpec, Sample
from byrote.studies import MOST_SAMPLE_EPOCHS, AbstractStudy, Plan, StudyBudget
from byrote.training import AbstractProbe

Knob = Literal["runs", "subsets"]


class Amount(NamedTuple):
    """Networks per condition, and networks on subsets."""

    runs: int
    subsets: int


USUAL = Amount(runs=5, subsets=40)
"""The most that is trained unless somebody asks for more."""
GENEROUS = Amount(runs=20, subsets=1000)
"""The most that is trained when a budget was given."""
ENOUGH = Amount(runs=3, subsets=20)
"""Rather a smaller sample than fewer runs than this."""
SAMPLE_SIZES = (20_000, 10_000, 5000, 2000, 1000, 500)
WORTHWHILE = 2
"""A sample has to be at least this many times as fast as the whole task."""
SHARES = {"memorisation": 0.4, "lookup": 0.25, "random-data": 0.35}
"""Of the time for training. Networks on subsets serve lookup and memorisation alike."""

HALVINGS = 12
"""Steps of the search for what can be shared out so that the sum fits: to a four thousandth of the time."""

Cost = Callable[[Sequence[RunSpec]], float]
"""Predicted seconds of these runs."""
Price = Callable[[str, StudyBudget], float]
"""Predicted seconds of all that the study of this name foresees with this budget."""


@final
@dataclass(frozen=True, kw_only=True)
class Planner:
    """Chooses runs and samples for each study by what they would cost."""

    task: Task
    learner: Learner
    studies: tuple[AbstractStudy, ...]
    seed: int
    cost: Cost

    def fixed(self, runs: int) -> dict[str, StudyBudget]:
        """So many runs of each kind on the whole task, whatever they cost."""
        return {study.name: self._budget(runs=runs, subsets=runs) for study in self.studies}

    def plans(self, budgets: Mapping[str, StudyBudget]) -> list[Plan]:
        """What every study asks for."""
        return [study.plan(self.task, self.learner, budgets[study.name]) for study in self.studies]

    def runs(self, budgets: Mapping[str, StudyBudget]) -> list[RunSpec]:
        """Every distinct run that is asked for, most important first."""
        return interleaved([plan.runs for plan in self.plans(budgets)])

    def foreseen(self, budgets: Mapping[str, StudyBudget]) -> list[RunSpec]:
        """As `runs`, and what will be wanted once these are there."""
        return interleaved([plan.foreseen for plan in self.plans(budgets)])

    def seconds(self, budgets: Mapping[str, StudyBudget]) -> float:
        """Predicted, of all that is foreseen and of what runs compute on the way."""
        return self.cost(self._paid(self.plans(budgets)))

    def _paid(self, plans: Sequence[Plan]) -> list[RunSpec]:
        """What is foreseen, and what takes as long as what missing runs compute on the way."""
        alongside = [pair for plan in plans for pair in plan.alongside.items()]
        beside = [spec for run, own in alongside if own and self.cost([run]) > 0 for spec in own]
        return list(dict.fromkeys([*interleaved([plan.foreseen for plan in plans]), *beside]))

    def probes(self, budgets: Mapping[str, StudyBudget]) -> dict[RunSpec, tuple[AbstractProbe, ...]]:
        """What runs have to compute on the way: of each, what any study asks of it."""
        asked: dict[RunSpec, dict[str, AbstractProbe]] = {}
        for plan in self.plans(budgets):
            for spec, probes in plan.probes.items():
                asked.setdefault(spec, {}).update({probe.key: probe for probe in probes})
        return {spec: tuple(probes.values()) for spec, probes in asked.items()}

    def fits(self) -> list[FitSpec]:
        """Every distinct fit of a baseline, most important first: they do not depend on the number of runs."""
        return list(dict.fromkeys(fit for plan in self.plans(self.fixed(1)) for fit in plan.fits))

    def least(self) -> float:
        """Seconds of the smallest plan that says anything."""
        return self.cost(self._paid([self._smallest(study) for study in self.studies]))

    def smallest(self) -> list[RunSpec]:
        """The runs of that plan."""
        return list(dict.fromkeys(spec for study in self.studies for spec in self._smallest(study).foreseen))

    def _smallest(self, study: AbstractStudy) -> Plan:
        fewest = self.fewest(study)
        budget = self._budget(runs=fewest.runs, subsets=fewest.subsets, sample=self._sizes(None)[-1])
        return study.plan(self.task, self.learner, budget)

    def fewest(self, study: AbstractStudy) -> Amount:
        """The least that a budget has to reach for; of the networks on subsets, that all studies share, what the one
        that needs most of them needs.
        """
        sharing = [one.fewest_subsets for one in self.studies if one.uses_subsets]
        return Amount(runs=study.fewest_runs, subsets=max(sharing, default=study.fewest_subsets))

    def _price(self) -> Price:
        """As long as a run's cost is believed to be the same, each budget is looked at once."""
        named = {study.name: study for study in self.studies}
        return cache(lambda name, budget: self.cost(self._paid([named[name].plan(self.task, self.learner, budget)])))

    def _paying(self) -> list[AbstractStudy]:
        """All but those that only look at networks on subsets which another study has paid for."""
        looking = [study for study in self.studies if study.uses_subsets and not study.uses_runs]
        pays = max(looking, key=_wanted, default=None)
        return [study for study in self.studies if study is pays or study not in looking]

    def _shares(self, seconds: float) -> dict[str, float]:
        """Seconds of each study: what its smallest plan takes, as far as that goes, and its part of the rest."""
        paying = self._paying()
        nothing = {study.name: 0.0 for study in self.studies}
        wanted = sum(_wanted(study) for study in paying)
        least = {study.name: self.cost(self._paid([self._smallest(study)])) for study in paying}
        left = seconds - sum(least.values())
        if left < 0:
            paid = max(0.0, seconds) / sum(least.values()) if any(least.values()) else 0.0
            return nothing | {name: own * paid for name, own in least.items()}
        return nothing | {study.name: least[study.name] + left * _wanted(study) / wanted for study in paying}

    def within(
        self, seconds: float, most: Amount, *, kept: Mapping[str, StudyBudget] | None = None
    ) -> dict[str, StudyBudget]:
        """As many runs as fit into so many seconds, on as much of the task as leaves enough of them.

        Every study is given its fewest, though its own share of the time may not pay for them; then less is shared out,
        until the sum fits.

        Args:
            seconds: that runs may take; from `least` on they take no more.
            most: of each kind.
            kept: budgets that are under way, whose samples of the task are kept unless not even the fewest fit.
        """
        price = self._price()
        shared = self._shared_out(seconds, most, kept, price=price)
        if self.seconds(shared) <= seconds:
            return shared
        low, high, fitting = 0.0, seconds, self._shared_out(0.0, most, kept, price=price)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            shared = self._shared_out(middle, most, kept, price=price)
            if self.seconds(shared) <= seconds:
                low, fitting = middle, shared
            else:
                high = middle
        return fitting

    def _shared_out(
        self, seconds: float, most: Amount, kept: Mapping[str, StudyBudget] | None, *, price: Price
    ) -> dict[str, StudyBudget]:
        """What every study can pay with its share of the time.

        Studies of networks on subsets share these, so the largest of their shares of the time pays; a study that needs
        both kinds of network spends half on each.
        """
        shares = self._shares(seconds)
        by_subsets = [study for study in self.studies if study.uses_subsets]
        subsets = self._budget(runs=0, subsets=0)
        if by_subsets:
            pays = max(by_subsets, key=lambda study: shares[study.name])
            part = shares[pays.name] * (0.5 if pays.uses_runs else 1.0)
            subsets = self._choose(pays, seconds=part, knob="subsets", most=most, kept=kept, price=price)
        budgets: dict[str, StudyBudget] = {}
        for study in self.studies:
            budget = subsets if study.uses_subsets else self._budget(runs=0, subsets=0)
            if study.uses_runs:
                part = shares[study.name] * (0.5 if by_subsets == [study] else 1.0)
                chosen = self._choose(study, seconds=part, knob="runs", most=most, kept=kept, price=price)
                sample = budget.sample if study.uses_subsets else chosen.sample
                budget = replace(budget, runs=chosen.runs, sample=sample)
            budgets[study.name] = budget
        return budgets

    def _choose(
        self,
        study: AbstractStudy,
        *,
        seconds: float,
        knob: Knob,
        most: Amount,
        kept: Mapping[str, StudyBudget] | None,
        price: Price,
    ) -> StudyBudget:
        """The largest sample that leaves time for enough runs, and as many runs as fit then."""
        highest, enough, fewest = (getattr(amount, knob) for amount in (most, ENOUGH, self.fewest(study)))
        whole: list[Sample | None] = [None]
        sizes = self._sizes(study.largest_task) if knob == "subsets" or not study.uses_subsets else whole
        begun = kept is not None and kept[study.name].sample in sizes
        if kept is not None and begun:
            sizes = sizes[sizes.index(kept[study.name].sample) :]
        budget = self._budget(runs=0, subsets=0)
        for place, sample in enumerate(sizes):
            budget = self._budget(runs=0, subsets=0, sample=sample)
            number = _most(budget, lambda own: price(study.name, own), seconds=seconds, knob=knob, most=highest)
            budget = replace(budget, **{knob: max(fewest, number)})
            if number >= (fewest if begun and place == 0 else min(enough, highest)):
                break
        return budget

    def _sizes(self, largest: int | None) -> list[Sample | None]:
        """The whole task, unless the study says it is too large, then ever smaller samples of it.

        Runs on a sample take more epochs, so only a much smaller one is worth the loss.
        """
        number = len(self.task.train)
        samples = [
            Sample(train=size, test=min(len(self.task.test), max(500, size // 2)), draw=self.seed)
            for size in SAMPLE_SIZES
            if size * WORTHWHILE * MOST_SAMPLE_EPOCHS <= number and size >= 10 * max(1, self.task.num_classes)
        ]
        too_large = largest is not None and number > largest and bool(samples)
        return [*samples] if too_large else [None, *samples]

    def _budget(self, *, runs: int, subsets: int, sample: Sample | None = None) -> StudyBudget:
        return StudyBudget(runs=runs, subsets=subsets, seed=self.seed, sample=sample)


def _wanted(study: AbstractStudy) -> float:
    return SHARES.get(study.name, 0.3)


def interleaved(plans: Iterable[Sequence[RunSpec]]) -> list[RunSpec]:
    """Every distinct run once; all plans advance at the same relative pace, so that stopping early hurts none most."""
    placed = [((place + 0.5) / len(plan), spec) for plan in plans for place, spec in enumerate(plan)]
    return list(dict.fromkeys(spec for _, spec in sorted(placed, key=lambda pair: pair[0])))


def _most(budget: StudyBudget, price: Callable[[StudyBudget], float], *, seconds: float, knob: Knob, most: int) -> int:
    """The largest number up to `most` that fits, by bisection; 0 when none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if price(replace(budget, **{knob: middle})) <= seconds else (low, middle - 1)
    return low
