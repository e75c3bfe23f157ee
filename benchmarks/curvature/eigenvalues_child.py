"""One contender finds the largest eigenvalues of one network's Hessian, in a process of its own with one thread.

Reads job.json, network.pt and data.npz in the folder that it is given, and prints what it found as JSON. It needs
nothing but torch, numpy and the contender.
"""

import contextlib
import importlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

BATCH_SIZE = 256
ROWS = 8
"""Of a digit: the tokens of the transformer."""

FEWEST = 3
"""Starts of a contender, however long they take."""

Batches = list[tuple[Tensor, Tensor]]


class Transformer(nn.Module):
    """Two layers over the rows of a digit."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images [example, 1, 8, 8]."""
        return self.head(self.layers(self.embed(x[:, 0])).mean(1))


def network(name: str) -> nn.Module:
    """`mlp` (51k weights), `cnn` (44k) or `transformer` (0.4M)."""
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
    if name == "cnn":
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(256, 94), nn.ReLU(), nn.Linear(94, 10)),
        )
    return Transformer()


def batches_of(x: np.ndarray, y: np.ndarray) -> Batches:
    """All but the last of 256 examples."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    return [(inputs[i : i + BATCH_SIZE], targets[i : i + BATCH_SIZE]) for i in range(0, len(x), BATCH_SIZE)]


def plain_gradient(model: nn.Module, batches: Batches) -> None:
    """One pass over all data, as a tight loop takes it."""
    number = sum(len(y) for _, y in batches)
    parameters = list(model.parameters())
    total = [torch.zeros_like(one) for one in parameters]
    for x, y in batches:
        loss = functional.cross_entropy(model(x), y, reduction="sum") / number
        for one, part in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            one += part


def _byrote(model: nn.Module, batches: Batches, *, num: int, seed: int) -> list[float]:
    curvature = importlib.import_module("byrote.measures.curvature")
    objective = curvature.Objective(
        model,
        loss=lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1], reduction="none"),
        batches=batches,
    )
    return curvature.top_eigenvalues(objective, num=num, seed=seed).top.values.tolist()


def _pyhessian(model: nn.Module, batches: Batches, *, num: int, seed: int) -> list[float]:
    torch.manual_seed(seed)  # noqa: TID251
    hessian = importlib.import_module("pyhessian").hessian(model, nn.CrossEntropyLoss(), dataloader=batches, cuda=False)
    return [float(value) for value in hessian.eigenvalues(top_n=num)[0]]


def _eigenthings(model: nn.Module, batches: Batches, *, num: int, seed: int) -> list[float]:
    package = importlib.import_module("hessian_eigenthings")
    operator = package.HessianOperator(model, batches, package.supervised_loss(nn.CrossEntropyLoss()))
    return [float(value) for value in package.lanczos(operator, k=num, seed=seed).eigenvalues]


def _curvlinops(model: nn.Module, batches: Batches, *, num: int, seed: int) -> list[float]:
    package, linalg = importlib.import_module("curvlinops"), importlib.import_module("scipy.sparse.linalg")
    parameters = [one for one in model.parameters() if one.requires_grad]
    operator = package.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), parameters, batches, check_deterministic=False
    ).to_scipy()
    start = np.random.default_rng(seed).standard_normal(operator.shape[0]).astype(np.float32)
    return linalg.eigsh(operator, k=num, which="LA", v0=start, return_eigenvectors=False).tolist()


def _whole(batches: Batches) -> tuple[Tensor, Tensor]:
    """All data as one batch, for those that take no more than one."""
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def _nngeom(model: nn.Module, batches: Batches, *, num: int, seed: int) -> list[float]:
    package = importlib.import_module("nngeom")
    adapted = package.Model(model, lambda module, batch: functional.cross_entropy(module(batch[0]), batch[1]))
    found = package.hessian_spectrum(adapted, _whole(batches), k=num, trace=False, seed=seed)
    return found.eigenvalues[:num].tolist()


def _cockpit(model: nn.Module, batches: Batches, *, num: int, seed: int) -> list[float]:
    if num > 1:
        raise ValueError("only the largest")
    torch.manual_seed(seed)  # noqa: TID251
    package, extend = importlib.import_module("cockpit"), importlib.import_module("backpack").extend
    schedules = importlib.import_module("cockpit.utils.schedules")
    quantity = package.quantities.HessMaxEV(track_schedule=schedules.linear(1))
    x, y = _whole(batches)
    extended, loss_of = extend(model), extend(nn.CrossEntropyLoss())
    outputs = extended(x)
    told = {"batch_size": len(y), "individual_losses": functional.cross_entropy(outputs, y, reduction="none")}
    told |= {"loss": loss_of(outputs, y), "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    model.zero_grad()  # It measures what is left there too; a training loop does the same.
    cockpit = package.Cockpit(model.parameters(), quantities=[quantity])
    with cockpit(0, info=told):
        told["loss"].backward(create_graph=cockpit.create_graph(0))
    return [float(quantity.get_output()[0])]


CONTENDERS: dict[str, Callable[..., list[float]]] = {
    "byrote": _byrote,
    "PyHessian": _pyhessian,
    "hessian-eigenthings": _eigenthings,
    "curvlinops + eigsh": _curvlinops,
    "nngeom, one batch": _nngeom,
    "Cockpit, one batch": _cockpit,
}


def _state(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a measure has no business to change."""
    yield "gradients", [None if one.grad is None else one.grad.clone() for one in model.parameters()]
    yield "weights", [one.detach().clone() for one in model.parameters()]
    yield "mode", [module.training for module in model.modules()]
    yield "requires_grad", [one.requires_grad for one in model.parameters()]
    yield "hooks", [len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules()]
    yield "random state", [torch.random.get_rng_state()]
    yield "numpy's random state", [np.random.get_state(legacy=True)[1].copy()]  # noqa: NPY002  # pyright: ignore


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    def same(one: Any, other: Any) -> bool:
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return torch.equal(one, other)
        return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one is other or one == other

    return [name for name in before if not all(map(same, before[name], after[name]))]


def _quietly(job: dict[str, Any], model: nn.Module, batches: Batches) -> list[float]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if job["contender"] != "byrote":  # It sees to this itself; without it the others fail on a transformer.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        return CONTENDERS[job["contender"]](model, batches, num=job["num"], seed=job["seed"])


def main(folder: Path) -> None:
    """Time the contender and a plain gradient in turns."""
    torch.set_num_threads(1)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    model = network(job["network"])
    model.load_state_dict(torch.load(folder / "network.pt", weights_only=True))  # noqa: TID251
    data = np.load(folder / "data.npz")
    batches = batches_of(data["x"], data["y"])
    for one in model.parameters():
        one.grad = torch.full_like(one, 0.5)
    before, plain, own, values = dict(_state(model)), list[float](), list[float](), list[list[float]]()
    changed = list[str]()
    for warm_up in (lambda: plain_gradient(model, batches), lambda: _quietly(job, model, batches[:1])):
        warm_up()  # What is imported and allocated once is nobody's cost.
    started = time.monotonic()
    for repeat in range(job["repeats"]):
        if repeat >= FEWEST and time.monotonic() - started > job["enough"]:
            break
        begin = time.process_time()
        plain_gradient(model, batches)
        plain_gradient(model, batches)
        plain.append((time.process_time() - begin) / 2)
        begin = time.process_time()
        values.append(_quietly({**job, "seed": job["seed"] + repeat}, model, batches))
        own.append(time.process_time() - begin)
        if not repeat:
            changed = _changed(before, dict(_state(model)))
    print(json.dumps({"plain": plain, "seconds": own, "values": values, "changed": changed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
