"""The columns of per-example tables: one name, sign, type and unit each, at every door that they come through."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

from byrote.core import UnknownNameError, did_you_mean

Kind = Literal["classes", "numbers"]
"""Of targets."""
Door = Literal["outputs", "recorder", "audit", "labels"]
"""`byrote.scores` and `byrote.fit_and_score`; `byrote.Recorder`; `examples.parquet`; `labels.parquet`."""
ColumnType = Literal["number", "count", "flag", "text", "as given"]
"""Double precision; 64-bit whole number; True or False; text; whatever ids or targets are."""
BOTH: tuple[Kind, ...] = ("classes", "numbers")
ONLY_CLASSES: tuple[Kind, ...] = ("classes",)
ONLY_NUMBERS: tuple[Kind, ...] = ("numbers",)

MEMORISED = 0.25
"""From so high a memorisation score on an example counts as memorised: the threshold of Feldman & Zhang 2020."""
LOSS_FITTED = 0.1
"""A number counts as fitted when its squared error is below this share of the target's variance."""

FELDMAN = "Feldman & Zhang 2020, https://arxiv.org/abs/2008.03703"
JIANG = "Jiang et al. 2021, https://arxiv.org/abs/2002.03206"
NORTHCUTT = "Northcutt et al. 2021, https://arxiv.org/abs/1911.00068"
CARLINI = "Carlini et al. 2022, https://arxiv.org/abs/2112.03570"
PLEISS = "Pleiss et al. 2020, https://arxiv.org/abs/2001.10528"
TONEVA = "Toneva et al. 2019, https://arxiv.org/abs/1812.05159"
PAUL = "Paul et al. 2021, https://arxiv.org/abs/2107.07075"
CARTOGRAPHY = "Swayamdipta et al. 2020, https://arxiv.org/abs/2009.10795"
ARPIT = "Arpit et al. 2017, https://arxiv.org/abs/1706.05394"


@final
@dataclass(frozen=True, kw_only=True)
class ScoreColumn:
    """What a column is, wherever it is."""

    title: str
    """As people say it, within a sentence."""
    meaning: str
    type: ColumnType = "number"
    unit: str = ""
    numbers_unit: str = ""
    """Of numbers to predict, where it is another."""
    numbers_meaning: str = ""
    """Of numbers to predict, where it is another."""
    low: float | None = None
    high: float | None = None
    """The least and the most that it can be; None: unbounded. Of a kind whose unit is another, see `bounds`."""
    numbers_low: float | None = None
    numbers_high: float | None = None
    more: str = ""
    """What a high value says."""
    kinds: tuple[Kind, ...] = BOTH
    """Targets that have it."""
    stand_in: str = ""
    """The column that a table has in its place where the targets are of the other kind."""
    lacking: str = ""
    """Where they are, and nothing stands in its place: why it is null."""
    doors: tuple[Door, ...]
    endings: tuple[str, ...] = ()
    """Further columns, by what is added to the name: `_se` is the standard error, `_low` to `_high` a 95 % interval."""
    paper: str = ""

    def bounds(self, kind: Kind) -> tuple[float | None, float | None]:
        """The least and the most that it can be."""
        return (
            (self.numbers_low, self.numbers_high) if kind == "numbers" and self.numbers_unit else (self.low, self.high)
        )


_VARIANCES, _DEVIATIONS = "variances of the target", "standard deviations of the target"
_OUT: tuple[Door, ...] = ("outputs", "audit")
_TRACE: tuple[Door, ...] = ("recorder", "audit")
_NOT_RIGHT = "of a number it is not said what is near enough to be right; Recorder(fitted_below=…) takes it"

SCORE_COLUMNS: Mapping[str, ScoreColumn] = MappingProxyType(
    {
        "id": ScoreColumn(
            title="id", meaning="the example's id", type="as given", doors=("outputs", "recorder", "audit", "labels")
        ),
        "target": ScoreColumn(
            title="target",
            meaning="the class or number that it was trained with",
            type="as given",
            doors=("outputs", "recorder", "audit", "labels"),
        ),
        "group": ScoreColumn(
            title="group", meaning="the examples that it belongs to", type="as given", doors=("outputs",)
        ),
        "memorisation": ScoreColumn(
            title="memorisation",
            meaning="how much more often it is answered right by runs that were trained on it than by runs that were "
            "not, estimated from margins and all that examples have in common",
            numbers_meaning="`memorisation_raw`, as numbers have no margins to estimate it better from",
            unit="difference of probabilities",
            numbers_unit=_VARIANCES,
            low=-1.0,
            high=1.0,
            more="known by rote",
            doors=_OUT,
            endings=("_se",),
            paper=FELDMAN,
        ),
        "memorisation_low": ScoreColumn(
            title="memorisation, lower end",
            meaning="where the 95 % interval of `memorisation` begins",
            unit="difference of probabilities",
            low=-1.0,
            high=1.0,
            more="known by rote",
            kinds=ONLY_CLASSES,
            lacking="of numbers there is no such interval; memorisation_se is the standard error",
            doors=_OUT,
        ),
        "memorisation_high": ScoreColumn(
            title="memorisation, upper end",
            meaning="where it ends",
            unit="difference of probabilities",
            low=-1.0,
            high=1.0,
            more="known by rote",
            kinds=ONLY_CLASSES,
            lacking="of numbers there is no such interval; memorisation_se is the standard error",
            doors=_OUT,
        ),
        "memorisation_raw": ScoreColumn(
            title="published memorisation score",
            meaning="the published estimate: the plain difference of the two shares of right answers",
            numbers_meaning="how much smaller the squared error is in runs that were trained on it",
            unit="difference of probabilities",
            numbers_unit=_VARIANCES,
            low=-1.0,
            high=1.0,
            more="known by rote",
            doors=_OUT,
            endings=("_se",),
            paper=FELDMAN,
        ),
        "heldout_correct": ScoreColumn(
            title="right when left out",
            meaning="how often runs that were not trained on it answer it right: the C-score",
            unit="probability",
            low=0.0,
            high=1.0,
            more="easy",
            kinds=ONLY_CLASSES,
            stand_in="heldout_error",
            doors=_OUT,
            endings=("_se",),
            paper=JIANG,
        ),
        "heldout_probability": ScoreColumn(
            title="probability when left out",
            meaning="the mean probability of its target in runs that were not trained on it",
            unit="probability",
            low=0.0,
            high=1.0,
            more="easy",
            kinds=ONLY_CLASSES,
            stand_in="heldout_error",
            doors=_OUT,
            endings=("_se",),
            paper=NORTHCUTT,
        ),
        "self_confidence": ScoreColumn(
            title="probability when trained on",
            meaning="the same in runs that were",
            unit="probability",
            low=0.0,
            high=1.0,
            more="fitted",
            kinds=ONLY_CLASSES,
            stand_in="self_error",
            doors=_OUT,
            endings=("_se",),
        ),
        "heldout_error": ScoreColumn(
            title="error when left out",
            meaning="the mean squared error of runs that were not trained on it",
            unit=_VARIANCES,
            numbers_unit=_VARIANCES,
            numbers_low=0.0,
            more="hard",
            kinds=ONLY_NUMBERS,
            stand_in="heldout_correct",
            doors=_OUT,
            endings=("_se",),
        ),
        "self_error": ScoreColumn(
            title="error when trained on",
            meaning="the same of runs that were",
            unit=_VARIANCES,
            numbers_unit=_VARIANCES,
            numbers_low=0.0,
            more="not fitted",
            kinds=ONLY_NUMBERS,
            stand_in="self_confidence",
            doors=_OUT,
            endings=("_se",),
        ),
        "csl": ScoreColumn(
            title="CSL",
            meaning="cumulative sample loss: its losses summed over the moments of training at which it was seen",
            numbers_meaning="the same of squared errors",
            unit="nats",
            numbers_unit=_VARIANCES,
            low=0.0,
            numbers_low=0.0,
            more="learnt late or never",
            doors=_TRACE,
            endings=("_se",),
            paper="Ravikumar et al. 2025, Towards Memorization Estimation: Fast, Formal and Free",
        ),
        "aum": ScoreColumn(
            title="AUM",
            meaning="area under the margin: the mean over training of its target's logit minus the largest other",
            unit="logits",
            more="easy; below 0 often a wrong label",
            kinds=ONLY_CLASSES,
            lacking="a number has no margin; csl and mean_residual say what errors were over training",
            doors=_TRACE,
            endings=("_se",),
            paper=PLEISS,
        ),
        "forgetting_events": ScoreColumn(
            title="forgetting events",
            meaning="how often in a training a right answer was followed by a wrong one",
            unit="times a training",
            low=0.0,
            more="hard",
            kinds=ONLY_CLASSES,
            lacking=_NOT_RIGHT,
            doors=_TRACE,
            endings=("_se",),
            paper=TONEVA,
        ),
        "never_learnt": ScoreColumn(
            title="never learnt",
            meaning="the share of the trainings on it in which it was never answered right; of one training, 0 or 1",
            unit="share of trainings",
            low=0.0,
            high=1.0,
            more="hard, or a wrong label",
            kinds=ONLY_CLASSES,
            lacking=_NOT_RIGHT,
            doors=_TRACE,
            endings=("_se",),
            paper=TONEVA,
        ),
        "el2n": ScoreColumn(
            title="EL2N",
            meaning="the error's length early in training: ‖softmax − one-hot‖₂",
            numbers_meaning="the error's size early in training: |prediction − target|",
            unit="Euclidean length",
            numbers_unit=_DEVIATIONS,
            low=0.0,
            high=2**0.5,
            numbers_low=0.0,
            more="hard",
            doors=_TRACE,
            endings=("_se",),
            paper=PAUL,
        ),
        "confidence": ScoreColumn(
            title="confidence",
            meaning="data map: the mean over training of its target's probability",
            unit="probability",
            low=0.0,
            high=1.0,
            more="easy",
            kinds=ONLY_CLASSES,
            stand_in="mean_residual",
            doors=_TRACE,
            endings=("_se",),
            paper=CARTOGRAPHY,
        ),
        "mean_residual": ScoreColumn(
            title="mean residual",
            meaning="data map: the mean over training of |prediction − target|",
            unit=_DEVIATIONS,
            numbers_unit=_DEVIATIONS,
            numbers_low=0.0,
            more="hard",
            kinds=ONLY_NUMBERS,
            stand_in="confidence",
            doors=_TRACE,
            endings=("_se",),
        ),
        "variability": ScoreColumn(
            title="variability",
            meaning="data map: the standard deviation over training of that probability",
            numbers_meaning="data map: the standard deviation over training of |prediction − target|",
            unit="probability",
            numbers_unit=_DEVIATIONS,
            low=0.0,
            high=0.5,
            numbers_low=0.0,
            more="ambiguous",
            doors=_TRACE,
            endings=("_se",),
            paper=CARTOGRAPHY,
        ),
        "correctness": ScoreColumn(
            title="correctness",
            meaning="data map: how often it is answered right over training",
            unit="share of moments",
            low=0.0,
            high=1.0,
            more="easy",
            kinds=ONLY_CLASSES,
            lacking=_NOT_RIGHT,
            doors=_TRACE,
            endings=("_se",),
            paper=CARTOGRAPHY,
        ),
        "label_suspicion": ScoreColumn(
            title="suspicion",
            meaning="1 − the mean probability of its target in runs that were not trained on it",
            numbers_meaning="the share of ordinary held-out residuals that are smaller than its own",
            unit="probability",
            low=0.0,
            high=1.0,
            more="its target looks wrong",
            doors=_OUT,
            paper=NORTHCUTT,
        ),
        "heldout_target": ScoreColumn(
            title="held-out answer",
            meaning="the likeliest class by the mean of runs that were not trained on it",
            numbers_meaning="the mean prediction of runs that were not trained on it",
            type="as given",
            doors=_OUT,
        ),
        "suggested_target": ScoreColumn(
            title="suggested target",
            meaning="the class that fits best with all that is known of it: held-out runs, the course of training, "
            "neighbours",
            numbers_meaning="the mean prediction of runs that were not trained on it",
            type="as given",
            doors=("labels",),
            paper=NORTHCUTT,
        ),
        "membership_risk": ScoreColumn(
            title="membership risk",
            meaning="how often a run that was trained on it is surer of its target, in log-odds, than one that was not",
            numbers_meaning="how often a run that was trained on it comes nearer to its target than one that was not",
            unit="AUC, ½ for nothing",
            low=0.0,
            high=1.0,
            more="exposed",
            doors=_OUT,
            endings=("_se",),
            paper=CARLINI,
        ),
        "num_influenced": ScoreColumn(
            title="held-out examples that depend on it",
            meaning="test examples that are answered because of it, by 0.15 or more",
            type="count",
            unit="test examples",
            low=0.0,
            more="influential",
            doors=_OUT,
            paper=FELDMAN,
        ),
        "largest_influence": ScoreColumn(
            title="largest influence",
            meaning="of the strongest of these: how much more often runs that were trained on it are right about it",
            numbers_meaning="of the strongest of these: how much smaller its squared error is, of test targets",
            unit="difference of probabilities",
            numbers_unit=_VARIANCES,
            low=-1.0,
            high=1.0,
            more="influential",
            doors=_OUT,
            endings=("_se",),
            paper=FELDMAN,
        ),
        "most_influenced": ScoreColumn(
            title="most influenced", meaning="the id of that test example", type="as given", doors=_OUT
        ),
        "knn_shapley": ScoreColumn(
            title="KNN-Shapley",
            meaning="what it is worth to a table of 10 nearest neighbours, on held-out examples",
            unit="share of accuracy",
            numbers_unit=_VARIANCES,
            low=-1.0,
            high=1.0,
            more="useful; below 0 it does harm",
            doors=("audit",),
            endings=("_se",),
            paper="Jia et al. 2019, https://arxiv.org/abs/1908.08619",
        ),
        "grand": ScoreColumn(
            title="GraNd",
            meaning="length of the gradient of its loss, early in training",
            unit="gradient of the loss",
            low=0.0,
            more="hard",
            doors=("audit",),
            endings=("_se",),
            paper=PAUL,
        ),
        "csg": ScoreColumn(
            title="CSG",
            meaning="squared gradients of its loss with respect to its input, summed over training",
            unit="squared gradient of the loss",
            low=0.0,
            more="hard",
            doors=("audit",),
            endings=("_se",),
        ),
        "input_curvature": ScoreColumn(
            title="input-loss curvature",
            meaning="how sharply the loss bends around its input, after training",
            unit="change of the gradient",
            low=0.0,
            more="known by rote",
            doors=("audit",),
            endings=("_se",),
            paper="Garg et al. 2024, https://arxiv.org/abs/2307.05831",
        ),
        "prediction_depth": ScoreColumn(
            title="prediction depth",
            meaning="first layer from which on neighbours say what the network says",
            unit="layers",
            low=0.0,
            more="hard",
            doors=("audit",),
            endings=("_se",),
            paper="Baldock et al. 2021, https://arxiv.org/abs/2106.09647",
        ),
        "loss_sensitivity": ScoreColumn(
            title="loss-sensitivity",
            meaning="how much the loss of the first steps hangs on its input",
            unit="gradient of the loss",
            low=0.0,
            more="influential",
            doors=("audit",),
            endings=("_se",),
            paper=ARPIT,
        ),
        "first_epoch_error": ScoreColumn(
            title="first-epoch error",
            meaning="how often it is missed after one epoch",
            numbers_meaning="its squared error's rank after one epoch, from 0 to 1",
            unit="share of trainings",
            numbers_unit="rank",
            low=0.0,
            high=1.0,
            numbers_low=0.0,
            numbers_high=1.0,
            more="hard",
            doors=("audit",),
            endings=("_se",),
            paper=ARPIT,
        ),
        "count": ScoreColumn(
            title="runs",
            meaning="runs on the smaller side: trained on it, or not",
            type="count",
            unit="runs",
            low=0.0,
            more="surer scores",
            doors=_OUT,
        ),
        "num_updates": ScoreColumn(
            title="visits",
            meaning="visits that were recorded",
            type="count",
            unit="visits",
            low=0.0,
            more="surer scores",
            doors=("recorder",),
        ),
        "aum_flagged": ScoreColumn(
            title="flagged by AUM",
            meaning="whether its AUM is below that of 99 % of the threshold samples",
            type="flag",
            doors=("recorder",),
            paper=PLEISS,
        ),
        "flagged": ScoreColumn(
            title="flagged",
            meaning="whether its label is called wrong, at a false-discovery rate",
            type="flag",
            doors=("labels",),
        ),
        "probability": ScoreColumn(
            title="probability of an error",
            meaning="the probability that its label is wrong",
            unit="probability",
            low=0.0,
            high=1.0,
            more="its target looks wrong",
            doors=("labels",),
            endings=("_se",),
        ),
        "rank": ScoreColumn(
            title="rank",
            meaning="its place, the most doubtful label being the first",
            type="count",
            unit="place",
            low=1.0,
            more="its target looks right",
            doors=("labels",),
        ),
        "reason": ScoreColumn(title="reason", meaning="what speaks against its label", type="text", doors=("labels",)),
        "status": ScoreColumn(
            title="status",
            meaning="what it is (`learnt`, `memorised`, `never fitted`), or where a number would mislead",
            type="text",
            doors=("outputs", "recorder", "audit"),
        ),
    }
)
"""By name, in the order of the documentation."""


def score_column(name: str) -> ScoreColumn:
    """What a column of a table is; of a standard error, what it is the error of.

    >>> score_column("aum_se").title
    'AUM'

    Raises:
        UnknownNameError: no table has such a column.
    """
    if name in SCORE_COLUMNS:
        return SCORE_COLUMNS[name]
    for stem, column in SCORE_COLUMNS.items():
        if any(name == stem + ending for ending in column.endings):
            return column
    raise UnknownNameError(
        f"Unknown column {name!r}.{did_you_mean(name, SCORE_COLUMNS)} Known: {', '.join(SCORE_COLUMNS)}."
    )


def has_column(column: ScoreColumn, kind: Kind) -> bool:
    """Whether tables of such targets have the column: null where nothing stands in its place."""
    return kind in column.kinds or not column.stand_in


def notes_by_kind(empty: frozenset[str], kind: Kind) -> tuple[str, ...]:
    """Why columns are null that targets of this kind cannot have.

    >>> notes_by_kind(frozenset({"aum"}), "numbers")[0][:37]
    'aum is null: a number has no margin; '

    Args:
        empty: the columns that hold nothing.
        kind: of the targets.
    """
    reasons: dict[str, list[str]] = {}
    for name, column in SCORE_COLUMNS.items():
        if name in empty and kind not in column.kinds:
            reasons.setdefault(column.lacking, []).append(name)
    return tuple(
        f"{_listed(names)} {'is' if len(names) == 1 else 'are'} null: {reason}." for reason, names in reasons.items()
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
