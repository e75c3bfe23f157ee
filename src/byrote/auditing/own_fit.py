"""Scores of a learner that is no PyTorch module: a function that fits anything."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load_file, save_file

from byrote.auditing.folder import claim_folder, whole
from byrote.auditing.progress_line import how_to_go_on, progress_line
from byrote.core import DataError, ModelError, derive, describe_failure
from byrote.data import Task, inclusion
from byrote.execution import OnProgress, Progress
from byrote.records import BalancedSubset, identity
from byrote.scoring import Table, scores
from byrote.studies import SUBSET_FRACTION

Predict = Callable[[np.ndarray], Any]
"""From inputs [example, ...] to what is thought of them: class probabilities or logits [example, class], class codes
[example], or numbers [example]."""
Fit = Callable[[Int[np.ndarray, "chosen"], int], Predict]
"""From positions of training examples and a seed to a fitted predictor."""
FEWEST = 4
"""Runs, so that examples can be both trained on and left out."""
SMALLEST = 1e-6
"""A probability that a model gives as 0 is taken for this one."""
SUMS_TO_ONE = 1e-3
"""Rows of outputs that are not negative and sum to 1 this nearly are probabilities."""


class _Said(NamedTuple):
    """What a fitted predictor says of the training and of the test examples."""

    train: Float[np.ndarray, "example output"]
    test: Float[np.ndarray, "test_example output"]


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

    The subsets are those of an audit: 70 % of the examples each, every example left out equally often, groups whole.

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
            classes, or class codes [example]; for a regression, numbers [example].
        runs: fits, at least 4.
        seed: the root of all seeds and subsets.
        out: a folder that keeps what every fit said, so that stopping loses nothing and more runs can be added; None
            keeps nothing.
        progress: show how far it is, and how long it will take, in a line on standard error, in a terminal or a
            notebook.
        on_run: told after each fit how many there are.

    Returns:
        As `byrote.scores`.

    Raises:
        ValueError: too few runs.
        ModelError: fit or predict fails, or what it gives is of another shape.
        StoreError: the folder is used for something else.
        KeyboardInterrupt: on Ctrl-C; its note says what is kept.

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703
    """
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
    own = folder / "own-fits" / hashlib.sha256(f"{task.fingerprint} {identity(fit)}".encode()).hexdigest()[:16]
    own.mkdir(parents=True, exist_ok=True)
    return own


def _run(task: Task, fit: Fit, included: np.ndarray, *, seed: int, path: Path | None) -> _Said:
    if path is not None and path.exists():
        kept = load_file(path)
        return _Said(kept["train"], kept["test"])
    try:
        predict = fit(np.flatnonzero(included), seed)
        raw = [predict(part.x) for part in (task.train, task.test)]
    except Exception as error:
        raise ModelError(f"fit, or the predict that it returned, failed: {describe_failure(error)}") from error
    said = _Said(*(_outputs(task, given, number=len(x)) for given, x in zip(raw, (task.train, task.test), strict=True)))
    if path is not None:
        with whole(path) as temporary:
            save_file(said._asdict(), temporary)
    return said


def _outputs(task: Task, given: Any, *, number: int) -> Float[np.ndarray, "example output"]:
    """Logits up to a constant for classes, a column for numbers, and a column for classes that were only named."""
    values = np.asarray(given)
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
        return values[:, None]
    is_probability = (values >= 0).all() and np.allclose(values.sum(1), 1, atol=SUMS_TO_ONE)
    return np.log(np.maximum(values, SMALLEST)) if is_probability else values


def _scored(task: Task, mask: np.ndarray, said: list[_Said]) -> Table:
    about = {"ids": task.train.ids, "groups": task.train.groups}
    if task.regression:
        return scores(mask, predictions=np.stack([one.train[:, 0] for one in said]), targets=task.train.y, **about)
    names = np.array(task.classes)
    if said[0].train.shape[1] == 1:
        correct = np.stack([one.train[:, 0] == task.train.y for one in said])
        return scores(mask, correct=correct, targets=names[task.train.y], classes=task.classes, **about)
    return scores(
        mask,
        logits=[one.train for one in said],
        targets=names[task.train.y],
        classes=task.classes,
        test_logits=[one.test for one in said] if len(task.test) else None,
        test_targets=names[task.test.y] if len(task.test) else None,
        **about,
    )
