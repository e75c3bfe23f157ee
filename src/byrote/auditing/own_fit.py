"""Scores of a learner that is no PyTorch module: a function that fits anything."""

import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load_file, save_file

from byrote.auditing.folder import claim_folder, whole
from byrote.auditing.plain_globals import plain_globals
from byrote.auditing.progress_line import how_to_go_on, progress_line
from byrote.core import DataError, ModelError, derive, describe_failure
from byrote.data import Task, inclusion
from byrote.execution import OnProgress, Progress
from byrote.records import BalancedSubset, identity
from byrote.scoring import SMALLEST, Table, scores
from byrote.studies import SUBSET_FRACTION

Predict = Callable[[np.ndarray], Any]
"""From inputs [example, ...] to what is thought of them: class probabilities or logits [example, class], class codes
[example], or numbers [example]."""
Fit = Callable[[Int[np.ndarray, "chosen"], int], Predict]
"""From positions of training examples and a seed to a fitted predictor."""
FEWEST = 4
"""Runs, so that examples can be both trained on and left out."""
SUMS_TO_ONE = 1e-3
"""Rows of outputs that are not negative and sum to 1 this nearly are probabilities."""


class _Said(NamedTuple):
    """What a fitted predictor says of the training and of the test examples."""

    train: Float[np.ndarray, "example output"]
    test: Float[np.ndarray, "test_example output"]

    @property
    def kinds(self) -> Iterator[tuple[str, str]]:
        """Of each part that has examples what it is, in words."""
        for part, outputs in (("training", self.train), ("test", self.test)):
            if len(outputs):
                yield part, _kind(outputs)


def fit_and_score(
    task: Task,
    fit: Fit,
    *,
    runs: int = 40,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
    on_run: Callable[[int], None] = lambda done: None,
) -> Table:
    """Score every training example by fitting anything on random subsets: boosted trees, a pipeline, another library.

    The subsets are those of an audit: 70 % of the examples each, groups whole, every example left out of 3 of each 10
    runs. Fewer than 10 may leave an example out never or always, and a note says of how many there is then no score.

    >>> import byrote
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> task = byrote.load("digits")
    >>> x = task.train.x.reshape(len(task.train), -1)
    >>> def fit(indices, seed):
    ...     model = DecisionTreeClassifier(random_state=0).fit(x[indices], task.train.y[indices])
    ...     return lambda inputs: model.predict_proba(inputs.reshape(len(inputs), -1))
    >>> table = byrote.fit_and_score(task, fit, runs=4)
    >>> len(table), table.columns[:2]
    (1438, ('id', 'target'))

    Args:
        task: training and test examples; `predict` is given their inputs as they are.
        fit: is given the positions of the training examples to fit, ascending, and a seed, and returns `predict`, a
            function of inputs. It gives class probabilities or logits [example, class] in the order of the task's
            classes, or class codes or names [example]; for a regression, numbers [example].
        runs: fits, at least 4; better 10, 20, 30, ….
        seed: the root of all seeds and subsets.
        out: a folder that keeps what every fit said, so that stopping loses nothing and more runs can be added; None
            keeps nothing. Fits are made anew when the function's code, what it encloses, or a plain value that it reads
            from its module (a number, a text, a list of these) is another; other changes are not seen.
        progress: show how far it is, and how long it will take, in a line on standard error, in a terminal or a
            notebook.
        on_run: told after each fit how many there are.

    Returns:
        As `byrote.scores`.

    Raises:
        TypeError: runs are no whole number.
        ValueError: too few runs.
        ModelError: fit or predict fails, or what it gives is of another shape, or not always of the same kind.
        StoreError: the folder is used for something else.
        KeyboardInterrupt: on Ctrl-C; its note says what is kept.

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703
    """
    try:
        runs = operator.index(runs)
    except TypeError:
        raise TypeError(f"Expected runs as a whole number, got {runs!r}.") from None
    if runs < FEWEST:
        raise ValueError(f"Expected at least {FEWEST} runs, got {runs!r}.")
    folder = None if out is None else _folder(Path(out), task, fit)
    mask = np.stack([_included(task, draw=seed, index=index) for index in range(runs)])
    seeds = [derive(seed, "run", index) for index in range(runs)]
    paths = [None if folder is None else folder / f"{each:016x}.safetensors" for each in seeds]
    with progress_line(progress, on_progress=None) as tell:
        said = _fitted(task, fit, mask, seeds=seeds, paths=paths, on_run=on_run, tell=tell, out=out)
        tell(Progress("scoring", 0, 1))
        return _scored(task, mask, said)


def _fitted(
    task: Task,
    fit: Fit,
    mask: Bool[np.ndarray, "run example"],
    *,
    seeds: list[int],
    paths: list[Path | None],
    on_run: Callable[[int], None],
    tell: OnProgress,
    out: str | Path | None,
) -> list[_Said]:
    """What every run says, fitted unless it is kept."""
    missing = [path is None or not path.exists() for path in paths]
    said: list[_Said] = []
    done = 0
    try:
        for included, seed, path, is_new in zip(mask, seeds, paths, missing, strict=True):
            tell(Progress("fitting", done, sum(missing)))
            said.append(_run(task, fit, included, seed=seed, path=path))
            _check_kind(said[0], said[-1], run=len(said) - 1)
            done += is_new
            on_run(len(said))
    except KeyboardInterrupt as stop:
        stop.add_note(how_to_go_on(None if out is None else Path(out), done=done, noun="fit"))
        raise
    return said


def _included(task: Task, *, draw: int, index: int) -> Bool[np.ndarray, "example"]:
    included = inclusion(task, BalancedSubset(fraction=SUBSET_FRACTION, draw=draw, index=index))
    if not included.any():
        raise DataError(f"A random subset of the {len(task.train)} training examples is empty. Bring more.")
    return included


def _folder(folder: Path, task: Task, fit: Fit) -> Path:
    """Of this function on these data: other code, and other data, have another folder."""
    claim_folder(folder, about={"task": task.name, "fingerprint": task.fingerprint})
    read = plain_globals(fit)
    code = f"{task.fingerprint} {identity(fit)}{f' {read}' if read else ''}"
    own = folder / "own-fits" / hashlib.sha256(code.encode()).hexdigest()[:16]
    own.mkdir(parents=True, exist_ok=True)
    return own


def _run(task: Task, fit: Fit, included: np.ndarray, *, seed: int, path: Path | None) -> _Said:
    if path is not None and path.exists():
        kept = load_file(path)
        return _Said(kept["train"], kept["test"])
    try:
        predict = fit(np.flatnonzero(included), seed)
    except Exception as error:
        raise ModelError(f"fit failed: {describe_failure(error)}") from error
    if not callable(predict):
        raise ModelError(
            f"Expected fit to return a function of inputs, got {type(predict).__name__}. Of a model, return its "
            f"method: return model.predict_proba"
        )
    try:
        raw = [predict(part.x) for part in (task.train, task.test)]
    except Exception as error:
        raise ModelError(f"The predict that fit returned failed: {describe_failure(error)}") from error
    said = _Said(*(_outputs(task, given, number=len(x)) for given, x in zip(raw, (task.train, task.test), strict=True)))
    if path is not None:
        with whole(path) as temporary:
            save_file(said._asdict(), temporary)
    return said


def _outputs(task: Task, given: Any, *, number: int) -> Float[np.ndarray, "example output"]:
    """Logits up to a constant for classes, a column for numbers, and a column for classes that were only named."""
    values = _coded(np.asarray(given), task)
    wanted = (number,) if task.regression or values.ndim == 1 else (number, task.num_classes)
    if task.regression and values.shape == (number, 1):
        values = values[:, 0]
    if values.shape != wanted or values.dtype.kind not in "fiub":
        shape = (
            f"numbers [{number}]" if task.regression else f"[{number}, {task.num_classes}], or class codes [{number}]"
        )
        raise ModelError(f"Expected predict to give {shape}, got {values.dtype} of shape {values.shape}.")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ModelError("predict gave NaN or infinite values.")
    if values.ndim == 1:
        _check_codes(task, values)
        return values[:, None]
    is_probability = (values >= 0).all() and np.allclose(values.sum(1), 1, atol=SUMS_TO_ONE)
    return np.log(np.maximum(values, SMALLEST)) if is_probability else values


def _coded(values: np.ndarray, task: Task) -> np.ndarray:
    """Names of classes as codes; anything else as it is."""
    code = {name: place for place, name in enumerate(task.classes)}
    if task.regression or values.ndim != 1 or values.dtype.kind not in "OU" or not {*values.tolist()} <= code.keys():
        return values
    return np.array([code[name] for name in values.tolist()], np.int64)


def _check_codes(task: Task, values: Float[np.ndarray, "example"]) -> None:
    strange = values[(values != np.rint(values)) | (values < 0) | (values >= max(2, task.num_classes))]
    if not task.regression and len(strange):
        raise ModelError(
            f"Expected predict to give class codes 0 to {task.num_classes - 1}, got {strange[0]:g}. For probabilities "
            f"or logits give one column for each class, such as [1 − p, p] of two."
        )


def _kind(outputs: Float[np.ndarray, "example output"]) -> str:
    """Logits that are logarithms of probabilities are as good as these."""
    if outputs.shape[1] == 1:
        return "one value for each example"
    sums, slack = np.exp(np.minimum(outputs, 1)).sum(1), outputs.shape[1] * SMALLEST
    return "class probabilities" if np.allclose(sums, 1, atol=SUMS_TO_ONE + slack) else "logits"


def _check_kind(first: _Said, said: _Said, *, run: int) -> None:
    """Everything is of the kind that came first."""
    expected = next(first.kinds)[1]
    for part, kind in said.kinds:
        if kind != expected:
            raise ModelError(
                f"Expected predict to give {expected}, as run 0 gave of the training examples, got {kind} of the "
                f"{part} examples in run {run}. Give the same kind in all runs."
            )


def _scored(task: Task, mask: np.ndarray, said: list[_Said]) -> Table:
    about: dict[str, Any] = {"ids": task.train.ids, "groups": task.train.groups}
    if len(task.test):
        about["test_ids"] = task.test.ids
    if task.regression:
        tests: dict[str, Any] = {"test_predictions": _stacked([one.test for one in said]), "test_targets": task.test.y}
        predictions = _stacked([one.train for one in said])
        return scores(mask, predictions=predictions, targets=task.train.y, **about, **(tests if len(task.test) else {}))
    names = np.array(task.classes)
    if said[0].train.shape[1] == 1:
        return scores(
            mask,
            correct=_stacked([one.train for one in said]) == task.train.y,
            test_correct=_stacked([one.test for one in said]) == task.test.y if len(task.test) else None,
            targets=names[task.train.y],
            classes=task.classes,
            **about,
        )
    return scores(
        mask,
        logits=[one.train for one in said],
        targets=names[task.train.y],
        classes=task.classes,
        test_logits=[one.test for one in said] if len(task.test) else None,
        test_targets=names[task.test.y] if len(task.test) else None,
        **about,
    )


def _stacked(parts: Sequence[Float[np.ndarray, "example 1"]]) -> Float[np.ndarray, "run example"]:
    return np.stack([part[:, 0] for part in parts])
