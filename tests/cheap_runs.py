"""Runs and fits made by hand, without training: what studies summarise, in a millisecond."""

from collections.abc import Sequence

import numpy as np

from byrote.core import derive
from byrote.data import Examples, Task, inclusion, randomise_targets
from byrote.records import SGD, Fit, FitSpec, Learner, Recipe, Run, RunCurves, RunSpec, Trace
from byrote.studies import AbstractStudy, Outcome, Results, StudyBudget
from byrote.studies.study import sampled_part

LEARNER = Learner(model=lambda: None, recipe=Recipe(optimiser=SGD(lr=0.1), batch_size=8, epochs=4))


def task_of(
    *,
    num_train: int = 40,
    num_test: int = 12,
    num_classes: int = 3,
    num_features: int = 4,
    groups: bool = False,
    coarse: bool = False,
    shares: Sequence[float] | None = None,
    seed: int = 0,
) -> Task:
    """A task with a signal; 0 classes: a regression."""
    rng = np.random.default_rng(seed)
    number = num_train + num_test
    x = rng.standard_normal((number, num_features))
    if coarse:
        x = (x > 0).astype(np.float64)
    if num_classes == 0:
        y = x[:, 0] + 0.3 * rng.standard_normal(number)
    else:
        y = rng.choice(num_classes, size=number, p=shares)
        y[:num_classes] = np.arange(num_classes)
        x[:, 0] += 0.0 if coarse else 2 * y
    group = np.arange(number) // 4 if groups else None
    parts = np.arange(num_train), np.arange(num_train, number)
    train, test = (
        Examples(x[part], y[part], ids=part, groups=None if group is None else group[part]) for part in parts
    )
    return Task(train=train, test=test, classes=tuple(f"class {code}" for code in range(num_classes)))


def fake_run(task: Task, spec: RunSpec, *, skill: float = 2.0, constant: bool = False, diverged: bool = False) -> Run:
    """A run that learns its targets, and is right on others as far as its skill goes."""
    part = sampled_part(task, spec.sample)
    rng = np.random.default_rng(derive(spec.seed, spec.key))
    targets, included = randomise_targets(part, spec.labels).targets, inclusion(part, spec.subset)
    train = _outputs(part, targets, skill * (0.3 + included), rng, constant=constant)
    random = "corrupted" in spec.labels.kind and spec.labels.fraction == 1  # pyright: ignore
    test = _outputs(part, part.test.y, np.full(len(part.test), 0.0 if random else skill), rng, constant=constant)
    loss, margin = _judged(part, train, targets)
    epochs = spec.learner.recipe.epochs
    fading = np.linspace(3, 1, epochs + 1)[:, None]
    score = np.linspace(0.2, 1.0, epochs) if not constant else np.full(epochs, 0.2)
    nothing = np.full(epochs, np.nan)
    curves = RunCurves(
        step=10.0 * np.arange(1, epochs + 1),
        train_loss=nothing if diverged else (1.2 - score) * (np.log(part.num_classes or np.e)),
        train_score=nothing if diverged else score * rng.uniform(0.9, 1),
        test_loss=nothing if diverged else 1.2 - score,
        test_score=nothing,
        weight_norm=nothing if diverged else 1 + score,
    )
    trace = Trace(
        loss=np.full((epochs + 1, len(targets)), np.nan) if diverged else fading * loss,
        margin=np.full((epochs + 1, len(targets)), np.nan) if diverged or part.regression else fading[::-1] * margin,
        early_error=np.sqrt(np.abs(loss)),
        train_outputs=np.full_like(train, np.nan) if diverged else train,
        test_outputs=np.full_like(test, np.nan) if diverged else test,
    )
    status = "diverged" if diverged else "completed"
    return Run(spec=spec, status=status, message="Lower it." * diverged, curves=curves, trace=trace, seconds=0.1)


def fake_fit(task: Task, spec: FitSpec, *, skill: float = 2.0) -> Fit:
    """A fit that is right on others as far as its skill goes."""
    part = sampled_part(task, spec.sample)
    rng = np.random.default_rng(derive(spec.seed, spec.key))
    included = inclusion(part, spec.subset)
    train = _outputs(part, part.train.y, skill * (0.3 + included), rng)
    test = _outputs(part, part.test.y, np.full(len(part.test), skill), rng)
    return Fit(
        spec=spec, train_outputs=train if spec.evaluate_train else None, test_outputs=test, note="noted", seconds=0.1
    )


def summarise(
    study: AbstractStudy,
    task: Task,
    budget: StudyBudget,
    *,
    runs: Sequence[Run] = (),
    fits: Sequence[Fit] = (),
) -> Outcome:
    """What a study says of these runs and fits."""
    return study.summarise(results_of(task, runs, fits=fits), budget)


def results_of(task: Task, runs: Sequence[Run], *, fits: Sequence[Fit] = ()) -> Results:
    """These, as a study reads them."""
    return Results(
        task=task,
        learner=LEARNER,
        runs={run.spec: run for run in runs if run.status == "completed"},
        fits={fit.spec: fit for fit in fits},
        diverged=tuple(run for run in runs if run.status == "diverged"),
    )


def _outputs(
    part: Task, y: np.ndarray, skill: np.ndarray, rng: np.random.Generator, *, constant: bool = False
) -> np.ndarray:
    if part.regression:
        noise = rng.standard_normal(len(y)) * np.std(part.train.y) / (1 + skill)
        known = np.where(skill > 0, y, part.train.y.mean())
        return np.full((len(y), 1), part.train.y.mean()) if constant else (known + noise)[:, None]
    outputs = rng.standard_normal((len(y), part.num_classes))
    outputs[np.arange(len(y)), y] += skill
    if constant:
        outputs[:] = np.arange(part.num_classes)
    return outputs.astype(np.float32)


def _judged(part: Task, outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if part.regression:
        return (outputs[:, 0] - targets) ** 2 / np.var(part.train.y), np.full(len(targets), np.nan)
    own = outputs[np.arange(len(targets)), targets]
    others = outputs.copy()
    others[np.arange(len(targets)), targets] = -np.inf
    return np.logaddexp.reduce(outputs, axis=1) - own, own - others.max(1)
