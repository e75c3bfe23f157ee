"""One suite over every record: it survives JSON, it refuses what it does not know, and its key is its content."""

import copy
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, final, get_args, get_origin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote import records
from byrote.core import SpecError
from byrote.records import (
    SGD,
    BalancedSubset,
    Bar,
    Bars,
    CorruptedLabels,
    Finding,
    FitSpec,
    Learner,
    ModelSpec,
    Recipe,
    Record,
    ReplacedLabels,
    RunSpec,
    Sample,
    Scores,
    Section,
    Step,
    Switch,
    Verdict,
    above,
    canonical,
    custom,
    decode,
    dumps,
    encode,
    loads,
    provenance,
    within,
)

# ---- every record, with any valid content ------------------------------------------------------------------------

WITH_ARRAYS = {"Run", "RunCurves", "Trace", "Fit", "ProbeResult", "Scores"}
"""Stored as Parquet and safetensors, not as JSON."""

KINDS: list[Any] = [
    kind
    for name in records.__all__
    if isinstance(kind := getattr(records, name), type) and dataclasses.is_dataclass(kind) and name not in WITH_ARRAYS
]

REALS = st.floats(allow_nan=False, allow_infinity=False)
ATOMS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    int: st.integers(0, 2**63 - 1),
    float: REALS,
    bool: st.booleans(),
    NoneType: st.none(),
}
RANGES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("lr", "eps", "factor"), st.floats(1e-300, 1e300)),
    **dict.fromkeys(("rho", "clip_norm"), st.floats(1e-300, 1e300)),
    **dict.fromkeys(("beta1", "beta2", "dropout", "label_smoothing"), st.floats(0, 1, exclude_max=True)),
    "momentum": st.floats(1e-300, 1, exclude_max=True),
    **dict.fromkeys(("epochs", "every", "train", "test", "steps", "step"), st.integers(1)),
    "batch_size": st.integers(1) | st.just("all"),
    **dict.fromkeys(("weight_decay", "input_noise", "fisher_penalty"), st.floats(0, 1e300)),
    "switches": st.deferred(lambda: st.lists(any_of(Switch), max_size=2, unique_by=lambda s: s.step)).map(
        lambda drawn: tuple(sorted(drawn, key=lambda switch: switch.step))
    ),
    "autocast": st.just(False),
    "fraction": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "positions": st.lists(ATOMS[int], max_size=3, unique=True).map(lambda drawn: tuple(sorted(drawn))),
}
"""Fields that not every value of their type fits."""


@cache
def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Anything that an annotation allows."""
    if kind is Finding:
        return _findings()
    if kind is ReplacedLabels:
        return st.dictionaries(ATOMS[int], REALS, max_size=3).map(_replaced)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        parts = [part for part in dataclasses.fields(kind) if part.name != "factory"]
        return st.builds(
            kind, **{part.name: RANGES[part.name] if part.name in RANGES else any_of(part.type) for part in parts}
        )
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:
        return st.one_of(*map(any_of, arguments))
    if get_origin(kind) is Literal:
        return st.sampled_from(arguments)
    if get_origin(kind) is tuple and arguments[-1] is ...:
        return st.lists(any_of(arguments[0]), max_size=3).map(tuple)
    if get_origin(kind) is tuple:
        return st.tuples(*map(any_of, arguments))
    return ATOMS[kind]


def _replaced(drawn: dict[int, float]) -> ReplacedLabels:
    positions = sorted(drawn)
    return ReplacedLabels(positions=tuple(positions), targets=tuple(drawn[position] for position in positions))


def _findings() -> st.SearchStrategy[Finding]:
    others = {part.name: any_of(part.type) for part in dataclasses.fields(Finding) if part.name not in ("low", "high")}
    bounds = st.tuples(REALS, REALS).map(sorted) | st.just([None, None])
    return st.tuples(st.fixed_dictionaries(others), bounds).map(
        lambda drawn: Finding(**drawn[0], low=drawn[1][0], high=drawn[1][1])
    )


LEARNER = Learner(model=ModelSpec(name="mlp", arguments=(("width", 256),)), recipe=Recipe(schedule=Step(every=3)))
SPEC = RunSpec(
    task="0123456789abcdef",
    learner=LEARNER,
    seed=1,
    order=2,
    labels=CorruptedLabels(fraction=0.25, draw=3),
    subset=BalancedSubset(fraction=0.7, draw=0, index=4),
    sample=Sample(train=30, test=20, draw=0),
)


# ---- JSON and back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_record_survives_json(kind: Any, data: st.DataObject) -> None:
    record = data.draw(any_of(kind))
    again = loads(kind, dumps(record))
    assert again == record
    assert canonical(again) == canonical(record)


@given(any_of(RunSpec))
def test_a_spec_that_survives_json_keeps_its_key(spec: RunSpec) -> None:
    again = decode(RunSpec, json.loads(canonical(spec)))
    assert (again, again.key, hash(again)) == (spec, spec.key, hash(spec))


def test_numbers_that_json_lacks_become_null() -> None:
    assert encode({"loss": math.nan, "slope": math.inf, "kept": 0.5}) == {"loss": None, "slope": None, "kept": 0.5}


def test_arrays_and_numpy_numbers_become_lists_and_numbers() -> None:
    scores = Scores(value=np.array([0.5, np.nan]), se=np.array([0.1, np.nan]), count=np.array([4, 0]))
    assert encode(scores) == {"value": [0.5, None], "se": [0.1, None], "count": [4, 0]}
    assert json.dumps(encode({"n": np.int64(3), "x": np.float32(0.5)})) == '{"n": 3, "x": 0.5}'


def test_a_users_factory_rides_along_but_is_not_stored() -> None:
    spec = custom(dict)
    assert spec.factory is dict
    assert "factory" not in encode(spec)
    assert decode(ModelSpec, encode(spec)) == spec


# ---- what is refused, and in which words -------------------------------------------------------------------------


def _set(path: str, value: Any) -> dict[str, Any]:
    """The stored spec with one value set, anywhere in it."""
    stored = copy.deepcopy(encode(SPEC))
    *way, last = path.split(".")
    inner = stored
    for part in way:
        inner = inner[part]
    inner[last] = value
    return stored


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("sed", "seed"),
        ("learner.recepe", "recipe"),
        ("learner.recipe.epoch", "epochs"),
        ("learner.recipe.optimiser.momentun", "momentum"),
        ("learner.recipe.schedule.evry", "every"),
        ("learner.model.argument", "arguments"),
        ("labels.fractoin", "fraction"),
        ("subset.indx", "index"),
        ("sample.tran", "train"),
    ],
)
def test_a_mistyped_key_is_named_and_corrected_wherever_it_stands(path: str, meant: str) -> None:
    with pytest.raises(SpecError) as caught:
        decode(RunSpec, _set(path, 1), source="spec.json")
    assert str(caught.value) == f"spec.json is not a valid RunSpec: unknown key '{path}'. Did you mean: {meant}?"


def test_a_mistyped_key_inside_a_list_of_alternatives_is_corrected() -> None:
    figure = Bars(title="a", x_label="b", bars=(Bar(label="c", value=1.5),))
    section = Section(study="s", title="t", summary="u", findings=(), figures=(figure,), notes=())
    stored = encode(section)
    stored["figures"][0]["bars"][0]["valu"] = 2
    with pytest.raises(SpecError, match=r"unknown key 'figures\.0\.bars\.0\.valu'\. Did you mean: value\?$"):
        decode(Section, stored)


def test_every_mistyped_key_is_named_at_once() -> None:
    stored = _set("sed", 1)
    stored["labels"]["fractoin"] = 1
    with pytest.raises(SpecError) as caught:
        decode(RunSpec, stored)
    assert "'sed'" in str(caught.value)
    assert "'labels.fractoin'" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("inputs.kind", "tru", "inputs: unknown kind 'tru'. Did you mean: true? Known: 'true', 'shuffled', 'random', "
         "'gaussian', 'permuted-columns'"),
        ("labels.fraction", 2, "labels: Expected fraction in [0, 1], got 2.0."),
        ("learner.recipe.optimiser.lr", -1, "learner.recipe.optimiser: Expected lr above 0, got -1.0."),
        ("sample", {"train": 3, "test": 3}, "missing key 'sample.draw'"),
        ("sample.train", 0, "sample: Expected train at least 1, got 0."),
        ("seed", "one", "seed: Input should be a valid integer, unable to parse string as an integer, got 'one'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_was_expected(path: str, value: Any, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        decode(RunSpec, _set(path, value), source="spec.json")
    assert str(caught.value) == f"spec.json is not a valid RunSpec: {words}"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        decode(RunSpec, {"task": "t"})
    assert str(caught.value) == (
        "the record is not a valid RunSpec: missing key 'learner'; missing key 'seed'; missing key 'order'"
    )


def test_what_is_not_json_is_said_to_be_so() -> None:
    with pytest.raises(SpecError, match=r"^findings\.json is not JSON: Expecting"):
        loads(Recipe, "{epochs: 3}", source="findings.json")


def test_a_record_of_a_newer_schema_is_refused() -> None:
    assert get_args(Record.__dataclass_fields__["schema"].type)[0] == records.SCHEMA
    with pytest.raises(SpecError, match="schema"):
        decode(Record, {"schema": records.SCHEMA + 1})


# ---- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, FitSpec(task="t", baseline=records.Forest(), seed=0)], ids=["run", "fit"])
def test_a_key_is_the_same_in_another_process(spec: RunSpec | FitSpec) -> None:
    kind = type(spec).__name__
    code = f"import sys; from byrote.records import {kind}, loads; print(loads({kind}, sys.stdin.read()).key)"
    command, environment = [sys.executable, "-c", code], {"PYTHONHASHSEED": "7"}
    answer = subprocess.run(command, input=dumps(spec), capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == spec.key
    assert len(spec.key) == 20


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(SPEC, task="other"),
        dataclasses.replace(SPEC, seed=2),
        dataclasses.replace(SPEC, order=1),
        dataclasses.replace(SPEC, labels=records.TrueLabels()),
        dataclasses.replace(SPEC, labels=CorruptedLabels(fraction=0.25, draw=4)),
        dataclasses.replace(SPEC, inputs=records.ShuffledInputs()),
        dataclasses.replace(SPEC, inputs=records.RandomInputs()),
        dataclasses.replace(SPEC, subset=BalancedSubset(fraction=0.7, draw=0, index=5)),
        dataclasses.replace(SPEC, sample=None),
        dataclasses.replace(SPEC, learner=dataclasses.replace(LEARNER, recipe=Recipe(optimiser=SGD(lr=0.2)))),
        dataclasses.replace(SPEC, learner=dataclasses.replace(LEARNER, recipe=Recipe(dtype="float64"))),
        dataclasses.replace(SPEC, learner=dataclasses.replace(LEARNER, model=ModelSpec(name="cnn"))),
    ],
)
def test_whatever_differs_between_two_runs_differs_in_their_keys(other: RunSpec) -> None:
    assert other != SPEC
    assert other.key != SPEC.key


def test_equal_specs_have_one_key_however_their_numbers_are_written() -> None:
    whole = RunSpec(task="t", learner=LEARNER, seed=0, order=0, labels=CorruptedLabels(fraction=1, draw=0))
    real = RunSpec(task="t", learner=LEARNER, seed=0, order=0, labels=CorruptedLabels(fraction=1.0, draw=0))
    assert whole == real
    assert whole.key == real.key


def _of_width(width: Any) -> Callable[[], Any]:
    return lambda: width


def _narrow(*, width: int = 4) -> int:
    return width


def _wide(*, width: int = 8) -> int:
    return width


@final
class _Sized:
    def __init__(self, width: int) -> None:
        self.width = width

    def __call__(self) -> int:
        return self.width


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(_narrow, _wide, id="functions"),
        pytest.param(lambda: 4, lambda: 8, id="lambdas on one line"),
        pytest.param(_of_width(4), _of_width(8), id="closures"),
        pytest.param(_of_width([4, 4]), _of_width([4, 8]), id="closures over lists"),
        pytest.param(_of_width(np.zeros(2000)), _of_width(np.eye(1, 2000)[0]), id="closures over arrays"),
        pytest.param(partial(_narrow, width=4), partial(_narrow, width=8), id="partials"),
        pytest.param(partial(_narrow, width=4), _narrow, id="a partial and what it wraps"),
        pytest.param(_Sized(4), _Sized(8), id="objects"),
        pytest.param(_Sized(4).__call__, _Sized(8).__call__, id="methods"),
    ],
)
def test_other_code_is_another_model(one: Any, other: Any) -> None:
    assert custom(one, name="mine") == custom(one, name="mine")
    assert custom(one, name="mine") != custom(other, name="mine")
    assert Learner(model=one) == Learner(model=custom(one))


def test_a_closure_that_encloses_itself_has_a_name() -> None:
    def net(depth: int) -> int:
        return 0 if depth == 0 else net(depth - 1)

    assert custom(net).name.endswith("net")


def test_a_models_name_and_digest_are_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "factories.py").write_text(
        "from functools import partial\n"
        "class Sized:\n    def __init__(self, width): self.width = width\n    def __call__(self): return self.width\n"
        "def of(width):\n    return lambda: (width, Sized, width in {'a', 'b', 'c'})\n"
        "made = [partial(of, width=4), of(4), Sized(4), Sized, of, of(Sized(3))]\n"
    )
    code = (
        "from byrote.records import canonical, custom; from factories import made; "
        "print([canonical(custom(factory)) for factory in made])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", f"junk = [object() for _ in range({wasted})]; {code}"],
            capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONHASHSEED": str(wasted)},
        ).stdout
        for wasted in (1, 5000)
    }  # fmt: skip
    assert len(answers) == 1
    assert " at 0x" not in answers.pop()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "records.Learner(model='mlp')",
            "TypeError: Expected model to be a ModelSpec such as byrote.models.mlp(width=256), or a factory that makes "
            "a torch.nn.Module; got str.",
        ),
        (
            "records.Scores(value=np.zeros(2), se=np.zeros(2), count=np.zeros(3, int))",
            "ValueError: Expected value, se and count of one shape, got (2,), (2,), (3,).",
        ),
    ],
)
def test_what_annotations_catch_in_tests_is_refused_in_words_elsewhere(code: str, message: str) -> None:
    """In a process of its own, where no annotation is checked."""
    program = f"import numpy as np; from byrote import records; {code}"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.stderr.splitlines()[-1] == message


# ---- provenance --------------------------------------------------------------------------------------------------


def test_provenance_says_what_was_run_with_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/byrote", "audit", "digits"])
    here = provenance(seed=5, device="cpu", dtype="float32", num_threads=2)
    assert here.argv == ("byrote", "audit", "digits")
    assert (here.seed, here.device, here.dtype, here.num_threads) == (5, "cpu", "float32", 2)
    assert here.python == ".".join(map(str, sys.version_info[:3]))
    assert dict(here.versions)["numpy"] == np.__version__
    assert here.created.endswith("+00:00")


def test_outside_a_repository_there_is_no_revision(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance(seed=0, device="cpu", dtype="float32", num_threads=1).git_revision == ""


# ---- findings and verdicts ---------------------------------------------------------------------------------------


def _finding(**values: float | None) -> Finding:
    numbers: dict[str, float | None] = {"value": 0.5, "low": 0.4, "high": 0.6, "null": 0.1, "p_value": 0.01}
    numbers |= values
    return Finding(study="s", claim="c", statement="t", unit="share", num_runs=3, verdict="holds", paper="", **numbers)


def test_an_interval_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected low at most high, got 0\.7 and 0\.6 for c\."):
        _finding(low=0.7)
    assert _finding(low=0.6).low == 0.6


@pytest.mark.parametrize("name", ["value", "low", "high", "null", "p_value"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_none(name: str, number: float) -> None:
    assert getattr(_finding(**{name: number}), name) is None


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.1, 0.2, 0.0, "holds"),
        (-0.2, -0.1, 0.0, "does not hold"),
        (-0.1, 0.1, 0.0, "inconclusive"),
        (0.0, 0.1, 0.0, "inconclusive"),  # touching the null is not above it
        (-0.1, 0.0, 0.0, "does not hold"),
        (0.0, 0.0, 0.0, "does not hold"),
        (0.0, 0.04, 0.05, "does not hold"),  # too small to matter
        (0.0, 0.05, 0.05, "inconclusive"),
        (0.01, 0.04, 0.05, "holds"),  # small, and surely above
        (None, 0.1, 0.0, "inconclusive"),
        (0.1, None, 0.0, "inconclusive"),
        (math.nan, 0.1, 0.0, "inconclusive"),
        (0.1, math.inf, 0.0, "inconclusive"),
    ],
)
def test_above_judges_by_the_whole_interval(
    low: float | None, high: float | None, margin: float, verdict: Verdict
) -> None:
    assert above(low=low, high=high, null=0.0, margin=margin) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.45, 0.55, "holds"),
        (0.375, 0.625, "holds"),  # the margin itself is within
        (0.7, 0.8, "does not hold"),
        (0.1, 0.2, "does not hold"),
        (0.625, 0.8, "inconclusive"),
        (0.3, 0.5, "inconclusive"),
        (0.0, 1.0, "inconclusive"),
        (None, 0.5, "inconclusive"),
        (0.5, None, "inconclusive"),
        (-math.inf, 0.5, "inconclusive"),
        (0.5, math.nan, "inconclusive"),
    ],
)
def test_within_judges_by_the_whole_interval(low: float | None, high: float | None, verdict: Verdict) -> None:
    assert within(low=low, high=high, null=0.5, margin=0.125) == verdict


@given(st.tuples(REALS, REALS).map(sorted), REALS)
def test_a_claim_and_its_opposite_never_both_hold(interval: list[float], null: float) -> None:
    low, high = interval
    claim = above(low=low, high=high, null=null)
    opposite = above(low=-high, high=-low, null=-null)
    assert (claim, opposite) != ("holds", "holds")
    if claim == "holds":
        assert opposite == "does not hold"
