"""One finder of label errors on one data set, in a process of its own: run by whichever Python has the package.

    PYTHON label_errors_child.py CONTENDER DATA.npz SCORES.npz SEED BUDGET...

Trains and scores, a piece at a time, until the largest budget of CPU seconds is spent, and keeps for each budget the
last scores that were ready within it: everything counts but imports and reading the data. Of this repository it imports
nothing but byrote itself, and that only for byrote.
"""

import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, DEPTH, LR, MOMENTUM, BATCH_SIZE, EPOCHS = 128, 2, 0.05, 0.9, 64, 40
SUBSET = 0.7
FOLDS = 5
NUM_CLASSES = 10
FIRST_SCORING = 1.0
"""Seconds that scoring may take, before it is known. Scores are made only when the next ones may come too late."""


class Data(NamedTuple):
    """What everybody is given: standardised inputs, and labels of which some are wrong."""

    x: Tensor
    y: Tensor
    right: Tensor | None = None
    """Right labels, for the one contender that is told them."""


class Scores(NamedTuple):
    """More is more doubtful. The probability that a label is wrong, where a contender claims to know it."""

    doubt: np.ndarray
    probability: np.ndarray | None = None


Contender = Callable[[Data, int], Iterator[Callable[[], dict[str, Scores]]]]
"""Yields after every piece of work what scores it would give now; under one name or several."""


def network(seed: int) -> nn.Sequential:
    """The user's network, as PyTorch initialises it."""
    torch.default_generator.manual_seed(seed)
    widths = [40, *[WIDTH] * DEPTH]
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, NUM_CLASSES))


def epochs(
    data: Data, seed: int, *, keep: Tensor, record: Callable[[Tensor, Tensor], object] | None = None
) -> Iterator[nn.Sequential]:
    """The user's recipe as a plain loop, tensors in memory; the network after every epoch."""
    model = network(seed)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    for _ in range(EPOCHS):
        for batch in keep[torch.randperm(len(keep), generator=generator)].split(BATCH_SIZE):
            logits = model(data.x[batch])
            if record is not None:
                record(logits.detach(), batch)
            optimiser.zero_grad()
            functional.cross_entropy(logits, data.y[batch]).backward()
            optimiser.step()
        yield model


@torch.no_grad()
def probabilities(model: nn.Module, x: Tensor) -> np.ndarray:
    """Softmax of its logits."""
    return model(x).softmax(1).double().numpy()


def byrote(data: Data, seed: int) -> Iterator[Callable[[], dict[str, Scores]]]:
    """Networks on balanced subsets, as many at a time as the engine likes, and `label_errors` of what they leave."""
    byrote_data, records = importlib.import_module("byrote.data"), importlib.import_module("byrote.records")
    models, training = importlib.import_module("byrote.models"), importlib.import_module("byrote.training")
    examples = byrote_data.Examples(data.x.numpy(), data.y.numpy())
    task = byrote_data.Task(train=examples, test=examples.take(np.arange(NUM_CLASSES * 10)), name="noisy")
    recipe = records.Recipe(optimiser=records.SGD(lr=LR, momentum=MOMENTUM), batch_size=BATCH_SIZE, epochs=EPOCHS)
    learner = records.Learner(model=models.mlp(width=WIDTH, depth=DEPTH), recipe=recipe)
    tensors = training.training_data(
        task, inputs=records.TrueInputs(), sample=None, device=torch.device("cpu"), dtype=torch.float32
    )

    def spec(index: int) -> object:
        subset = records.BalancedSubset(fraction=SUBSET, draw=seed, index=index)
        own = 1000 * seed + index
        return records.RunSpec(task=task.fingerprint, learner=learner, seed=own, order=own, subset=subset)

    path = training.choose_path(tensors, spec(0), num_runs=4)
    runs: list[Any] = []
    while True:
        more = [spec(len(runs) + index) for index in range(max(4, path.num_stacked))]
        runs += training.train(more, tensors, path=path)
        yield partial(_byrote_scores, data, task, list(runs))


def _byrote_scores(data: Data, task: object, runs: list[Any]) -> dict[str, Scores]:
    measures, byrote_data = importlib.import_module("byrote.measures"), importlib.import_module("byrote.data")
    inclusion = np.stack([byrote_data.inclusion(task, run.spec.subset) for run in runs])
    if (~inclusion).sum(0).min() == 0:
        return {}
    logits = np.stack([run.trace.train_outputs for run in runs])
    trace = {
        "csl": np.stack([measures.csl(run.trace.loss) for run in runs]),
        "aum": np.stack([measures.aum(run.trace.margin) for run in runs]),
    }
    near = measures.nearest(data.x.numpy(), data.x.numpy(), num_neighbours=10, exclude_self=True).index
    found = {
        "byrote": measures.label_errors(inclusion, logits, data.y.numpy(), neighbours=near, **trace),
        "byrote, networks only": measures.label_errors(inclusion, logits, data.y.numpy(), **trace),
    }
    return {name: Scores(-one.rank.astype(float), one.probability.value) for name, one in found.items()}


def cleanlab(data: Data, seed: int) -> Iterator[Callable[[], dict[str, Scores]]]:
    """Self-confidence of 5-fold held-out probabilities, averaged over repetitions."""
    ranking = importlib.import_module("cleanlab.rank")
    total, repetitions = np.zeros((len(data.y), NUM_CLASSES)), 0
    while True:
        order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(seed + repetitions))
        for fold, out in enumerate(order.chunk(FOLDS)):
            keep = order[~torch.isin(order, out)]
            *_, model = epochs(data, 1000 * seed + FOLDS * repetitions + fold, keep=keep)
            total[out.numpy()] += probabilities(model, data.x[out])
        repetitions += 1

        def scores(mean: np.ndarray = total / repetitions) -> dict[str, Scores]:
            quality = ranking.get_label_quality_scores(data.y.numpy(), mean, method="self_confidence")
            return {"cleanlab": Scores(-quality, 1 - quality)}

        yield scores


def aum(data: Data, seed: int) -> Iterator[Callable[[], dict[str, Scores]]]:
    """Area under the margin by the package's recorder; within the first training after every epoch, then averaged."""
    calculator_of = importlib.import_module("aum").AUMCalculator
    everything, done = torch.arange(len(data.y)), []
    while True:
        calculator = calculator_of(tempfile.mkdtemp(), compressed=True)

        def record(logits: Tensor, batch: Tensor, calculator: Any = calculator) -> None:
            calculator.update(logits, data.y[batch], batch.tolist())

        def areas(calculator: Any = calculator) -> np.ndarray:
            return np.array([calculator.sums[i] / calculator.counts[i] for i in range(len(data.y))])

        for _ in epochs(data, 1000 * seed + len(done), keep=everything, record=record):
            if not done:
                yield lambda areas=areas: {"aum": Scores(-areas())}
        done.append(areas())
        yield lambda: {"aum": Scores(-np.mean(done, axis=0))}


def captum(data: Data, seed: int) -> Iterator[Callable[[], dict[str, Scores]]]:
    """Self-influence by TracInCPFast over three checkpoints, averaged over trainings."""
    tracin = importlib.import_module("captum.influence").TracInCPFast
    everything, done = torch.arange(len(data.y)), []
    dataset = torch.utils.data.TensorDataset(data.x, data.y)
    while True:
        kept: list[dict[str, Tensor]] = []
        model = network(0)
        for epoch, model in enumerate(epochs(data, 1000 * seed + len(done), keep=everything), start=1):
            if epoch in (EPOCHS // 3, 2 * EPOCHS // 3, EPOCHS):
                kept.append({name: part.clone() for name, part in model.state_dict().items()})

        def load(module: nn.Module, state: dict[str, Tensor]) -> float:
            module.load_state_dict(state)
            return LR

        influence = tracin(
            model,
            model[-1],
            dataset,
            kept,
            checkpoints_load_func=load,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=512,
        )
        done.append(influence.self_influence().double().numpy())
        yield lambda: {"captum": Scores(np.mean(done, axis=0))}


def told(data: Data, seed: int) -> Iterator[Callable[[], dict[str, Scores]]]:
    """As `heldout`, but trained on right labels: what nobody has, and what the network could say at best."""
    assert data.right is not None
    return heldout(data, seed, labels=data.right, name="told right labels")


def heldout(
    data: Data, seed: int, *, labels: Tensor | None = None, name: str = "held-out ensemble"
) -> Iterator[Callable[[], dict[str, Scores]]]:
    """Mean held-out probability of networks on random subsets in a plain loop."""
    learnt = data if labels is None else Data(data.x, labels)
    total, count, number = np.zeros((len(data.y), NUM_CLASSES)), np.zeros(len(data.y)), 0
    while True:
        generator = torch.Generator().manual_seed(1000 * seed + number)
        order = torch.randperm(len(data.y), generator=generator)
        keep, out = order[: round(SUBSET * len(order))], order[round(SUBSET * len(order)) :]
        *_, model = epochs(learnt, 1000 * seed + number, keep=keep)
        total[out.numpy()] += probabilities(model, data.x[out])
        count[out.numpy()] += 1
        number += 1

        def scores(sums: np.ndarray = total, counts: np.ndarray = count) -> dict[str, Scores]:
            confidence = sums[np.arange(len(sums)), data.y.numpy()] / np.maximum(counts, 1)
            confidence[counts == 0] = confidence[counts > 0].mean()
            return {name: Scores(-confidence, 1 - confidence)}

        yield scores


CONTENDERS: dict[str, Contender] = {
    "byrote": byrote,
    "cleanlab": cleanlab,
    "aum": aum,
    "captum": captum,
    "heldout": heldout,
    "told": told,
}


def main(name: str, data_path: str, scores_path: str, seed: int, budgets: list[float]) -> None:
    """Work until the largest budget is spent; keep what was ready at each."""
    torch.set_num_threads(1)
    arrays = np.load(data_path)
    right = torch.as_tensor(arrays["right"]) if name == "told" else None
    data = Data(torch.as_tensor(arrays["x"]), torch.as_tensor(arrays["y"]), right)
    if name == "byrote":
        for module in ("data", "models", "records", "training", "measures"):
            importlib.import_module(f"byrote.{module}")
    else:
        modules = {"cleanlab": "cleanlab.rank", "aum": "aum", "captum": "captum.influence"}
        importlib.import_module(modules.get(name, "torch"))
    kept: dict[str, np.ndarray] = {}
    spent, scoring, began = 0.0, FIRST_SCORING, time.process_time()
    for score in CONTENDERS[name](data, seed):
        piece = time.process_time() - began
        spent += piece
        if spent > max(budgets):
            break
        if not any(spent <= budget <= spent + 2 * (piece + scoring) for budget in budgets):
            began = time.process_time()
            continue
        began = time.process_time()
        found = score()
        scoring = time.process_time() - began
        for budget in (budget for budget in budgets if spent + scoring <= budget):
            for label, one in found.items():
                kept[f"{label}|{budget:g}|doubt"] = one.doubt
                kept[f"{label}|{budget:g}|cpu"] = np.array(spent + scoring)
                if one.probability is not None:
                    kept[f"{label}|{budget:g}|probability"] = one.probability
        began = time.process_time()
    np.savez(scores_path, **kept)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    contender, data_file, scores_file, root, *limits = sys.argv[1:]
    main(contender, data_file, scores_file, int(root), [float(limit) for limit in limits])
