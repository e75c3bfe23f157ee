"""What networks make of their inputs, as figures."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from byrote.data import Task
from byrote.measures import cka_map, kernel_distance, linear_cka
from byrote.probing import INPUTS, OUTPUTS, evenly
from byrote.records import Bars, Column, Curves, Figure, Heatmap, Interval, Series, Table
from byrote.studies.bars_and_bands import band, bar
from byrote.studies.certainty import crossed_interval
from byrote.studies.ends import target_noun
from byrote.studies.heldout import heldout_name
from byrote.studies.representation_claims import fit_shares, level, velocities
from byrote.studies.representation_runs import MACHINES, Represented, worth_quality
from byrote.studies.study import heldout_qualities, score_name, shift
from byrote.studies.watching import Watched, mean_of, ratio, within_bounds

MOST_SEEDS = 3
"""Whose networks are compared with one another in a map."""
MOST_LAYERS = 4
"""In a map."""
GEOMETRIC = " On the log scale, of what is above 0."
COLLAPSE = {
    "within": "NC1: spread within classes",
    "unequal_norms": "NC2: unequal norms",
    "unequal_angles": "NC2: unequal angles",
    "beyond_simplex": "NC2: from a simplex",
    "unaligned": "NC3: from the weights",
    "disagreement": "NC4: not the nearest mean",
}


class _Place(NamedTuple):
    """A row of a map."""

    words: str
    roots: Mapping[int, np.ndarray]
    """Of a layer at a moment, by seed."""


def representation_figures(part: Task, true: Represented, random: Represented) -> Iterator[Figure]:
    """All figures.

    Args:
        part: the task, or the part of it that was looked at.
        true: networks on true labels.
        random: networks on random labels.
    """
    yield from worth_bars(part, true)
    kinds = {f"true {target_noun(part)}": true, f"random {target_noun(part)}": random}
    yield from _kernel_curves(kinds)
    yield from _cka_curves(kinds)
    yield from _cka_heatmap(kinds)
    yield from _layer_curves(part, kinds)
    yield from _collapse_table(kinds)
    yield from _random_bars(part, random)


def worth_bars(part: Task, true: Represented) -> Iterator[Bars]:
    """Held-out scores of machines on inputs, on features before training and on features after it."""
    bars: list[tuple[str, Interval, str]] = []
    for machine, noun in MACHINES.items():
        bars.append((f"{noun}, inputs", level(part, worth_quality(part, true, machine, INPUTS, moment=0)), "inputs"))
        layers = [layer for layer in true.hidden if f"{machine}:{layer}" in true.worth.values]
        for words, moment, group in (("before", 0, "random features"), ("after", -1, "learnt features")):
            for layer in layers:
                own = worth_quality(part, true, machine, layer, moment=moment)
                bars.append((f"{noun}, layer {layer} {words}", level(part, own), group))
    if true.runs:
        scores = heldout_qualities(part, list(true.runs.values()))
        network = crossed_interval(scores, groups=part.test.groups, binary=not part.regression)
        bars.append(("the network", network, "network"))
    drawn = tuple(bar(words, found, group=group, shift=shift(part)) for words, found, group in bars if found.count)
    if drawn:
        yield Bars(
            title="The same machine on inputs, on random and on learnt features",
            x_label=heldout_name(part),
            bars=drawn,
            caption="Forests and kernel machines that learn from the same examples: from their inputs, from what a "
            "layer makes of them before any training, and after training. Intervals hold for new networks and new "
            "held-out examples; the claims pair seeds and examples, and are surer than these bars.",
        )


def _kernel_curves(kinds: Mapping[str, Represented]) -> Iterator[Curves]:
    speeds: list[Series] = []
    moved: list[Series] = []
    for words, own in kinds.items():
        middles, found = velocities(own)
        if found:
            speeds.append(_line(words, middles, np.stack(list(found.values())), positive=True))
        kernels = own.tangent.values.get("kernel")
        if kernels is not None:
            rows = [[_distance(one, run[0]) for one in run] for run in kernels]
            moved.append(_line(words, own.tangent.epochs, np.array(rows)))
    caption = (
        "Of the tangent kernel, summed over outputs, of at most 64 held-out examples: S = 1 − ⟨K₁, K₂⟩/(‖K₁‖‖K₂‖), "
        "whatever its scale. Mean over seeds, with 95 % bands. Fort et al. 2020."
    )
    if speeds:
        yield Curves(
            title="How fast the tangent kernel moves",
            x_label="epoch",
            y_label="distance per epoch",
            series=tuple(speeds),
            log_y=True,
            caption=caption + GEOMETRIC,
        )
    if moved:
        yield Curves(
            title="How far the tangent kernel has moved",
            x_label="epoch",
            y_label="distance from the start",
            series=tuple(moved),
            caption=caption,
        )


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    found = kernel_distance(one, other).value
    return np.nan if found is None else found


def _cka_curves(kinds: Mapping[str, Represented]) -> Iterator[Curves]:
    series: list[Series] = []
    for words, own in kinds.items():
        for layer in evenly(own.names, number=MOST_LAYERS):
            roots = own.layers.values[f"root:{layer}"]
            rows = [[_cka(one, run[0]) for one in run] for run in roots]
            series.append(_line(f"{_layer_words(layer)}, {words}", own.layers.epochs, np.array(rows), most=1.0))
    if series:
        yield Curves(
            title="How much features are still those of the start",
            x_label="epoch",
            y_label="linear CKA to initialisation",
            series=tuple(series),
            caption="Unbiased linear CKA of a layer with itself before training, on held-out examples: 1 is the same "
            "up to rotation and scale. Mean over seeds, with 95 % bands. Kornblith et al. 2019.",
        )


def _cka(one: np.ndarray, other: np.ndarray) -> float:
    found = linear_cka(torch.from_numpy(one), torch.from_numpy(other), unbiased=True).value
    return np.nan if found is None else found


def _cka_heatmap(kinds: Mapping[str, Represented]) -> Iterator[Heatmap]:
    """Mean over pairs of networks of different seeds; a network is not compared with itself."""
    places: list[_Place] = []
    true, *_ = kinds.values()
    for words, moment, own in (
        ("start", 0, true),
        *((words.split()[0], -1, own) for words, own in kinds.items()),
    ):
        for layer in evenly(own.names, number=MOST_LAYERS):
            roots = {seed: run[moment] for seed, run in list(own.layers.of(f"root:{layer}").items())[:MOST_SEEDS]}
            places.append(_Place(f"{_layer_words(layer)}, {words}", roots))
    values = _mean_map(places)
    if values is None:
        return
    names = tuple(place.words for place in places)
    yield Heatmap(
        title="How alike layers of different networks are",
        x_label="",
        y_label="",
        value_label="linear CKA",
        x=names,
        y=names,
        values=tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in values),
        caption=f"Unbiased linear CKA on the same held-out examples, mean over pairs of networks of different seeds, "
        f"of at most {MOST_SEEDS} seeds: the diagonal says how alike two trainings make the same layer.",
    )


def _mean_map(places: Sequence[_Place]) -> np.ndarray | None:
    seeds = sorted(set.intersection(*(set(place.roots) for place in places))) if places else []
    found: list[np.ndarray] = []
    for first, second in combinations(seeds, 2):
        ones, others = ([torch.from_numpy(place.roots[seed]) for place in places] for seed in (first, second))
        own = cka_map(ones, others, unbiased=True).value
        found += [own, own.T]
    return np.mean(found, axis=0) if found else None


def _layer_curves(part: Task, kinds: Mapping[str, Represented]) -> Iterator[Curves]:
    """By epoch: linear probes, effective rank, alignment with the targets, collapse."""
    asked = [
        ("probe", "What a linear map makes of each layer", f"held-out {score_name(part)}", shift(part)),
        ("rank", "In how many directions features spread", "effective rank", 0.0),
        ("alignment", "How well features fit the true targets", "kernel–target alignment", 0.0),
    ]
    captions = {
        "probe": "Ridge regression from a layer's features to the true targets of held-out examples, each answered by "
        "a fit to all others.",
        "rank": "exp of the entropy of the singular values' shares, of held-out examples (Roy & Vetterli 2007).",
        "alignment": "Centred alignment of the Gram matrix of a layer's features with that of the true targets, on "
        "held-out examples (Cortes et al. 2012).",
        "within": "Tr(Σ_W Σ_B⁺)/C on training examples, classes as the network is trained on: 0 where the examples of "
        "a class are one (NC1, Papyan et al. 2020).",
    }
    if not part.regression:
        asked.append(("within", "Whether classes collapse", "spread within classes over that between", 0.0))
    for measure, title, label, shifted in asked:
        series = tuple(
            _line(
                f"{_layer_words(layer)}, {words}",
                own.layers.epochs,
                _rows(own.layers, measure, layer) + shifted,
                positive=measure == "within",
            )
            for words, own in kinds.items()
            for layer in evenly(own.names, number=MOST_LAYERS)
        )
        series = tuple(line for line in series if line.y)
        if series:
            yield Curves(
                title=title,
                x_label="epoch",
                y_label=label,
                series=series,
                log_y=measure == "within",
                caption=f"{captions[measure]} Mean over seeds, with 95 % bands.{GEOMETRIC * (measure == 'within')}",
            )


def _rows(seen: Watched, measure: str, layer: str) -> np.ndarray:
    values = seen.values[f"{measure}:{layer}"]
    return values.mean(-1) if values.ndim > 2 else values


def _collapse_table(kinds: Mapping[str, Represented]) -> Iterator[Table]:
    rows: list[tuple[str | float | None, ...]] = []
    for words, own in kinds.items():
        for layer in own.names:
            numbers = [_mean_at_end(own.layers, measure, layer) for measure in COLLAPSE]
            if any(number is not None for number in numbers):
                rows.append((words, _layer_words(layer), *numbers))
    if rows:
        yield Table(
            title="Neural collapse after training",
            columns=(
                Column(name="trained on"),
                Column(name="layer"),
                *(Column(name=title, digits=3) for title in COLLAPSE.values()),
            ),
            rows=tuple(rows),
            caption="Mean over seeds, on training examples; all are 0 where each class is one point, the points are a "
            "simplex, and the last layer's weights point at them. Papyan, Han & Donoho 2020.",
        )


def _mean_at_end(seen: Watched, measure: str, layer: str) -> float | None:
    values = seen.values.get(f"{measure}:{layer}")
    if values is None or not np.isfinite(values[:, -1]).all():
        return None
    return float(values[:, -1].mean())


def _random_bars(part: Task, random: Represented) -> Iterator[Bars]:
    shares = {MACHINES[name]: mean_of(own) for name, own in fit_shares(random).items() if own}
    own = {seed: float(run.curves.train_score[-1]) for seed, run in random.runs.items()}
    if own:
        shares["network"] = mean_of(own)
    if shares:
        yield Bars(
            title=f"What fits random {target_noun(part)}",
            x_label=f"training {score_name(part)}",
            bars=tuple(bar(words, within_bounds(found), group=words) for words, found in shares.items()),
            caption="A forest of grown trees, and kernel machines after a million steps of gradient descent, on at "
            "most 512 examples; the network in its last epoch. Mean over seeds and draws of labels, with 95 % "
            "intervals.",
        )


def _line(name: str, x: np.ndarray, rows: np.ndarray, *, most: float = np.inf, positive: bool = False) -> Series:
    """Over seeds, moment by moment; those of which nothing is known are left out."""
    kept: list[tuple[float, Interval]] = []
    for at, column in zip(x.tolist(), rows.T.tolist(), strict=True):
        values = dict(enumerate(column))
        found = ratio(values, dict.fromkeys(values, 1.0), level=0.95) if positive else mean_of(values)
        if found.count:
            kept.append((at, within_bounds(found, -np.inf, most)))
    return band(name, [at for at, _ in kept], [point for _, point in kept])


def _layer_words(layer: str) -> str:
    return OUTPUTS if layer == OUTPUTS else f"layer {layer}"
