"""The loop that everyone writes: one network, one batch, one example after the other; slow, and easy to believe.

It knows of the engine only where random numbers come from: initial weights, batches, masks and noise.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from byrote.core import derive
from byrote.data import Task, inclusion, randomise_targets
from byrote.models import build
from byrote.records import SAM, SGD, AdamW, BalancedSubset, Cosine, Linear, Optimiser, Recipe, RunSpec, Step, WarmUp
from byrote.training.draws import kept, narrow, normal, run_keys, uniform
from byrote.training.layers import CALLS
from byrote.training.learn import DISTANCE, DRAWN_LABELS, NOISE

CPU = torch.device("cpu")
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Phase(NamedTuple):
    """What is in force from a step on."""

    step: int
    optimiser: Optimiser
    schedule: Any
    batch_size: Any
    regularisers: Any


class GivenDropout(nn.Module):
    """Dropout by a mask that is drawn for the whole batch, of which this network sees some rows."""

    def __init__(self, layer: nn.Module, *, number: int) -> None:
        super().__init__()
        self.number, self.p, self.whole_channels = number, float(layer.p), type(layer) is not nn.Dropout  # pyright: ignore
        self.rate, self.calls = self.p, 0
        self.key, self.rows, self.batch = torch.zeros(2, dtype=torch.int32), torch.zeros(0, dtype=torch.int64), 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        each = (x.shape[1], *[1] * (x.ndim - 2)) if self.whole_channels else tuple(x.shape[1:])
        key = narrow(self.key, CALLS * self.number + self.calls)
        mask = kept(key, (self.batch, *each), torch.tensor(self.rate, dtype=torch.float64))
        self.calls += 1
        return torch.where(mask[self.rows], x / (1 - self.rate), 0)


def give_masks(module: nn.Module) -> list[GivenDropout]:
    """Put `GivenDropout` in the place of dropout, numbered as the engine numbers dropout and batch normalisation."""
    given: dict[int, Any] = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in DROPOUTS or type(child) in NORMS:
                if id(child) not in given:
                    replaced = GivenDropout(child, number=len(given)) if type(child) in DROPOUTS else child
                    given[id(child)] = replaced
                setattr(parent, name, given[id(child)])
    return [layer for layer in given.values() if isinstance(layer, GivenDropout)]


def base_of(optimiser: Optimiser) -> Any:
    return optimiser.base if isinstance(optimiser, SAM) else optimiser


def torchs_own(optimiser: Any, weights: list[Any]) -> torch.optim.Optimizer:
    """The optimiser as torch has it."""
    if isinstance(optimiser, SGD):
        return torch.optim.SGD(
            weights,
            lr=optimiser.lr,
            momentum=optimiser.momentum,
            weight_decay=optimiser.weight_decay,
            nesterov=optimiser.nesterov,
        )
    kind = torch.optim.AdamW if isinstance(optimiser, AdamW) else torch.optim.Adam
    betas = (optimiser.beta1, optimiser.beta2)
    return kind(weights, lr=optimiser.lr, betas=betas, eps=optimiser.eps, weight_decay=optimiser.weight_decay)


def plain_rate(optimiser: Optimiser, schedule: Any, *, step: int, num_steps: int, epoch: int) -> float:
    lr = base_of(optimiser).lr
    if isinstance(schedule, WarmUp):
        share = (step + 1) / schedule.steps if step < schedule.steps else 1
        return share * plain_rate(optimiser, schedule.then, step=step, num_steps=num_steps, epoch=epoch)
    if isinstance(schedule, Step):
        for finished in range(1, epoch + 1):
            lr *= schedule.factor if finished % schedule.every == 0 else 1.0
    elif isinstance(schedule, Cosine):
        lr *= 0.5 + 0.5 * math.cos(step * math.pi / num_steps)
    elif isinstance(schedule, Linear):
        lr *= (num_steps - step) / num_steps
    return lr


def judge(task: Task, output: Tensor, target: Tensor) -> tuple[float, float, float]:
    """Loss, margin and error norm of one example."""
    seen = output.detach()
    if task.regression:
        return float((seen[0] - target) ** 2), math.nan, abs(float(seen[0] - target))
    y = int(target)
    others = [float(z) for c, z in enumerate(seen) if c != y]
    errors = [float(p) - (c == y) for c, p in enumerate(torch.exp(seen) / torch.exp(seen).sum())]
    loss = float(torch.logsumexp(seen, 0) - seen[y])
    return loss, float(seen[y]) - max(others), math.sqrt(sum(e * e for e in errors))


def plain_score(task: Task, losses: Any, margins: Any, targets: Tensor) -> float:
    if task.regression:
        return 1 - np.mean(losses) / float(targets.var(unbiased=False))
    return float(np.mean(np.asarray(margins) > 0))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class PlainTraining:
    """One network in training. `foreign`: its own dropout draws from torch's generator, seeded at every step."""

    def __init__(self, task: Task, one: RunSpec, *, foreign: bool = False) -> None:
        self.task, self.one, self.foreign = task, one, foreign
        self.module = build(one.learner.model, task=task, seed=one.seed, dtype=torch.float64).eval()
        self.dropouts: list[Any] = []
        if foreign:
            self.dropouts = [layer for layer in self.module.modules() if type(layer) in DROPOUTS]
        else:
            self.dropouts = give_masks(self.module)
        self.rates = [layer.p for layer in self.dropouts]
        self.norms = [layer for layer in self.module.modules() if isinstance(layer, NORMS)]
        self.weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        self.key = run_keys([one.seed], "draws", device=CPU)[0]
        self.optimiser: Any = None
        self.phase: Phase | None = None

    def begin(self, phase: Phase) -> None:
        """Another optimiser forgets; the same kind goes on with other numbers."""
        base = base_of(phase.optimiser)
        before = None if self.phase is None else base_of(self.phase.optimiser)
        fresh = torchs_own(base, self.weights)
        remembers = not (isinstance(before, SGD) and before.momentum == 0)
        if type(before) is type(base) and remembers:
            fresh.state.update(self.optimiser.state)
        self.optimiser, self.phase = fresh, phase

    def answers(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.module.eval()(x).reshape(len(x), -1)

    def step(self, x: Tensor, targets: Tensor, rows: Tensor, *, step: int, lr: float) -> None:
        """Learn from some rows of a batch."""
        assert self.phase is not None
        regular = self.phase.regularisers
        here = narrow(self.key, step)
        if regular.input_noise:
            x = x + regular.input_noise * normal(narrow(here, NOISE), x)
        for layer, own in zip(self.dropouts, self.rates, strict=True):
            rate = own if regular.dropout is None else regular.dropout
            if self.foreign:
                layer.p = rate
            else:
                layer.rate, layer.key, layer.rows, layer.batch = rate, here, rows, len(x)
        self._differentiate(x[rows], targets[rows], smoothing=regular.label_smoothing, step=step)
        if isinstance(self.phase.optimiser, SAM):
            before = copy.deepcopy(self.module.state_dict())
            reached = [weight for weight in self.weights if weight.grad is not None]
            gradient = torch.cat([weight.grad.flatten() for weight in reached])  # pyright: ignore
            with torch.no_grad():
                for weight in reached:
                    weight += self.phase.optimiser.rho * weight.grad / (gradient.norm() + 1e-12)  # pyright: ignore
            self._differentiate(x[rows], targets[rows], smoothing=regular.label_smoothing, step=step)
            self.module.load_state_dict(before)
        if regular.fisher_penalty and len(x[rows]):
            self._penalise(x, rows, amount=regular.fisher_penalty, here=here, step=step)
        if regular.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, regular.clip_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()

    def _penalise(self, x: Tensor, rows: Tensor, *, amount: float, here: Tensor, step: int) -> None:
        """Add α·2‖g̃‖·(g̃(θ + r·u) − g̃(θ))/r, u being g̃'s direction, to the gradient."""
        learnt = [None if weight.grad is None else weight.grad.clone() for weight in self.weights]
        before = copy.deepcopy(self.module.state_dict())
        key = narrow(here, DRAWN_LABELS)
        self._prepare(len(x[rows]))
        outputs = self._outputs(x[rows], step=step)
        if self.task.regression:
            drawn = outputs[:, 0] + normal(key, x.flatten(1)[:, 0])[rows] / 2**0.5
        else:
            below = outputs.softmax(1).cumsum(1)
            drawn = (below < uniform(key, x.flatten(1)[:, 0])[rows, None]).sum(1).clamp(max=outputs.shape[1] - 1)
        self._differentiate(x[rows], drawn.detach(), smoothing=0.0, step=step)
        found = [None if weight.grad is None else weight.grad.clone() for weight in self.weights]
        length = torch.cat([part.flatten() for part in found if part is not None]).norm()
        with torch.no_grad():
            for weight, part in zip(self.weights, found, strict=True):
                if part is not None:
                    weight += DISTANCE * part / (length + 1e-12)
        self._differentiate(x[rows], drawn.detach(), smoothing=0.0, step=step)
        self.module.load_state_dict(before)
        for weight, own, part in zip(self.weights, learnt, found, strict=True):
            if own is not None and part is not None and weight.grad is not None:
                weight.grad = own + amount * 2 * length * (weight.grad - part) / DISTANCE

    def _differentiate(self, x: Tensor, targets: Tensor, *, smoothing: float, step: int) -> None:
        """Mean loss over the rows; of none of them it is 0, and its gradient too."""
        self.optimiser.zero_grad()
        nothing = len(x) == 0
        self._prepare(len(x))
        x = torch.zeros(2, *x.shape[1:], dtype=x.dtype) if nothing else x
        outputs = self._outputs(x, step=step)
        if nothing:
            loss = (0 * outputs).sum()
        elif self.task.regression:
            loss = nn.functional.mse_loss(outputs[:, 0], targets)
        else:
            loss = nn.functional.cross_entropy(outputs, targets, label_smoothing=smoothing)
        loss.backward()

    def _prepare(self, number: int) -> None:
        """For learning from so many examples."""
        self.module.train(number > 0)
        for norm in self.norms:
            # Of a single value there is no variance: such a batch is learnt from as in evaluation mode.
            norm.train(number > 1 or (number == 1 and not self.foreign and isinstance(norm, nn.BatchNorm2d)))
        if self.foreign and self.norms and number == 1:
            self.module.eval()

    def _outputs(self, x: Tensor, *, step: int) -> Tensor:
        for layer in self.dropouts if not self.foreign else ():
            layer.calls = 0
        with seeded(derive(self.one.seed, "step", step)):
            return self.module(x).reshape(len(x), -1)


def phases_of(recipe: Recipe) -> list[Phase]:
    first = Phase(0, recipe.optimiser, recipe.schedule, recipe.batch_size, recipe.regularisers)
    return [first, *(Phase(s.step, s.optimiser, s.schedule, s.batch_size, s.regularisers) for s in recipe.switches)]


def planned(one: RunSpec, *, number: int) -> list[tuple[int, int, int, Phase]]:
    """Epoch, first and last position of every step, and its phase."""
    recipe, steps = one.learner.recipe, []
    fraction = one.subset.fraction if isinstance(one.subset, BalancedSubset) else 1
    for epoch in range(recipe.epochs):
        position = 0
        while position < number:
            phase = [phase for phase in phases_of(recipe) if phase.step <= len(steps)][-1]
            size = number if phase.batch_size == "all" else round(phase.batch_size / fraction)
            steps.append((epoch, position, min(position + size, number), phase))
            position += size
    return steps


def plain_run(task: Task, one: RunSpec, *, foreign: bool = False) -> dict[str, np.ndarray]:
    """Train one network; every number that the engine records, and the weights."""
    recipe = one.learner.recipe
    y = randomise_targets(task, one.labels).targets
    mean, scale = (task.train.y.mean(), task.train.y.std()) if task.regression else (0, 1)
    targets = torch.as_tensor((y - mean) / scale if task.regression else y)
    test_targets = torch.as_tensor((task.test.y - mean) / scale if task.regression else task.test.y)
    x, test_x = torch.as_tensor(task.train.x), torch.as_tensor(task.test.x)
    included = inclusion(task, one.subset)
    training = PlainTraining(task, one, foreign=foreign)
    n = len(x)
    loss, margin = np.full((recipe.epochs + 1, n), np.nan), np.full((recipe.epochs + 1, n), np.nan)
    early = np.full(n, np.nan)
    curves: dict[str, list[float]] = {name: [] for name in ("step", "train_loss", "train_score", "test_loss")}
    curves |= {"test_score": [], "weight_norm": []}
    steps = planned(one, number=n)
    for step, (epoch, begin, end, phase) in enumerate(steps):
        order = np.random.default_rng(derive(one.order, "order", epoch)).permutation(n)
        chosen = order[begin:end]
        for i, output in zip(chosen, training.answers(x[chosen]), strict=True):
            loss[epoch, i], margin[epoch, i], norm = judge(task, output, targets[i])
            if epoch == math.ceil(recipe.epochs / 10) - 1:
                early[i] = norm
        if phase is not training.phase and phase != training.phase:
            training.begin(phase)
        lr = plain_rate(phase.optimiser, phase.schedule, step=step, num_steps=len(steps), epoch=epoch)
        rows = torch.as_tensor(np.flatnonzero(included[chosen]))
        training.step(x[chosen], targets[chosen], rows, step=step, lr=lr)
        if end == n:
            point = _point(task, training, test_x, test_targets)
            point["step"] = step + 1
            point["train_loss"] = float(loss[epoch, included].mean())
            point["train_score"] = plain_score(task, loss[epoch, included], margin[epoch, included], targets[included])
            for name, value in point.items():
                curves[name].append(float(value))
    outputs = [training.answers(part) for part in (x, test_x)]
    for i in range(n):
        loss[-1, i], margin[-1, i], _ = judge(task, outputs[0][i], targets[i])
    train_outputs, test_outputs = (np.asarray(part) * scale + mean for part in outputs)
    traced = {"loss": loss, "margin": margin, "early_error": early}
    answers = {"train_outputs": train_outputs, "test_outputs": test_outputs}
    weights = {f"weights {name}": part.numpy() for name, part in training.module.state_dict().items()}
    return {**{name: np.array(values) for name, values in curves.items()}, **traced, **answers, **weights}


def _point(task: Task, training: PlainTraining, test_x: Tensor, test_targets: Tensor) -> dict[str, float]:
    test = [judge(task, z, t) for z, t in zip(training.answers(test_x), test_targets, strict=True)]
    losses, margins = [value for value, _, _ in test], [value for _, value, _ in test]
    return {
        "test_loss": float(np.mean(losses)),
        "test_score": plain_score(task, losses, margins, test_targets),
        "weight_norm": math.sqrt(sum(float((weight.detach() ** 2).sum()) for weight in training.weights)),
    }
