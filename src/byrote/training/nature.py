"""What kind of model this is: how may it be trained, does it behave differently while training?"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import ModelError, describe_failure
from byrote.records import SGD, Recipe
from byrote.training.chains import chain_of
from byrote.training.dense import DenseNetworks
from byrote.training.draws import run_keys
from byrote.training.layers import DROPOUTS, OwnedBatchNorm, keeps_its_own, own_layers
from byrote.training.networks import AbstractNetworks, Pass, other_generators, seeded
from byrote.training.optimise import OptimiserState, update
from byrote.training.rules import Batch, Rulebook
from byrote.training.single import SingleNetwork
from byrote.training.stacked import StackedNetworks
from byrote.training.unfolded import unfoldable

Method = Literal["single", "stacked", "unfolded", "dense"]
"""One at a time; through `torch.func.vmap`; so, with convolutions as matrix products; written out as products."""

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Relative and absolute: rounding passes, another function does not."""
JITTER = 0.05
"""Standard deviation of what is added to weights, so that a head that starts at zero hides nothing behind it."""
RATE = 0.5
"""Of dropout, while methods are compared."""


class Nature(NamedTuple):
    """How a model may be trained."""

    methods: tuple[Method, ...]
    """Those that give the outputs and gradients of the module itself; `single` is always one."""
    foreign: bool
    """While training it draws random numbers, mixes examples or changes buffers, other than through torch's dropout and
    batch normalisation layers: its training passes see nothing but the examples trained on."""
    reason: str
    """Why it cannot be stacked; empty when it can."""


def inspect_model(make: Callable[[int], nn.Module], x: Float[Tensor, "batch ..."]) -> Nature:
    """Find out by trying, and refuse what would be silently wrong.

    Args:
        make: makes a fresh network from a seed.
        x: a few inputs, on the device to train on.

    Raises:
        ModelError: the factory gives the same module twice, or other weights for the same seed; two passes in
            evaluation mode differ; the answer to one example depends on the others in the batch; the model fails in
            training mode.
    """
    first, again = make(0), make(0)
    _refuse_shared(first, again)
    for module in (first, again):
        _jitter(module.to(x.device), 0)
    given = x.clone()
    recorded, drew, _ = _outputs(first.eval(), x, seed=1)
    _refuse_writing(given, x)
    _refuse_random(recorded, _outputs(first, x, seed=2).outputs, drew=drew)
    half = max(1, len(x) // 2)
    _refuse_mixing(recorded[:half], _outputs(first, x[:half], seed=1).outputs)
    _outputs(again.train(), x, seed=2)
    _refuse_writing(given, x)
    if _is_foreign(make, x):
        reason = "while training it draws, mixes or remembers in layers of its own"
        return Nature(("single",), True, reason)
    if str(make(0)) != str(make(1)):
        return Nature(("single",), False, "networks of other seeds have layers with other settings")
    methods, reason = ["single"], ""
    for method in _stacks(make(0)):
        reason = _reason_against(method, make, x)
        methods += [] if reason else [method]
    return Nature(tuple(methods), False, reason if len(methods) == 1 else "")  # pyright: ignore


def networks_of(
    method: Method,
    modules: Sequence[nn.Module],
    *,
    device: torch.device,
    seed: int = 0,
    foreign: bool = False,
    channels_last: bool = False,
    autocast: bool = False,
) -> AbstractNetworks:
    """Modules as a method trains them; `seed` is that of a run trained alone.

    Raises:
        ValueError: autocast is asked for of networks that are trained together: they would round otherwise than alone.
    """
    if autocast and method != "single":
        raise ValueError(f"With autocast networks are trained one at a time, got the method {method!r}.")
    match method:
        case "single":
            return SingleNetwork(
                modules[0], device=device, seed=seed, foreign=foreign, channels_last=channels_last, autocast=autocast
            )
        case "dense":
            return DenseNetworks(modules, device=device)
        case "stacked" | "unfolded":
            return StackedNetworks(modules, device=device, unfold=method == "unfolded")


def _stacks(module: nn.Module) -> Iterator[Method]:
    """What may be tried."""
    if chain_of(module):
        yield "dense"
    yield "stacked"
    if unfoldable(module):
        yield "unfolded"


def _is_foreign(make: Callable[[int], nn.Module], x: Tensor) -> bool:
    """Whether, with the engine's layers in it, the model still does in training what only the engine may do."""
    plain, owned, evaluated = make(0), make(0), make(0)
    for layer in plain.modules():
        if type(layer) in DROPOUTS:
            layer.p = 0.0  # pyright: ignore
    layers = own_layers(owned)
    own_layers(evaluated)
    for module in (plain, owned, evaluated):
        _jitter(module.to(x.device), 0)
    expected, _, drew_elsewhere = _outputs(plain.train(), x, seed=3)
    if drew_elsewhere:
        return True
    everything = torch.ones(len(x), dtype=torch.bool, device=x.device)
    _set(layers.batch_norms.values(), everything)
    for dropout in layers.dropouts.values():
        dropout.rate = torch.zeros((), device=x.device)
    kept = {name: buffer.clone() for name, buffer in owned.named_buffers() if not _is_owned(name, layers.batch_norms)}
    try:
        learnt, drew, _ = _outputs(owned.train(), x, seed=3)
    except ModelError:  # Batch normalisation over something other than examples.
        return True
    remembers = any(not torch.equal(kept[name], buffer) for name, buffer in owned.named_buffers() if name in kept)
    if drew or remembers or keeps_its_own(owned) or not _same(learnt, expected):
        return True
    if not layers.batch_norms and not _same(learnt, _outputs(evaluated.eval(), x, seed=3).outputs):
        return True
    half = everything.clone()
    half[: len(x) // 2] = False
    _set(layers.batch_norms.values(), half)
    before = _outputs(owned, x, seed=3).outputs[half]
    others = x.clone()
    others[~half] = x[-1]
    return not _same(before, _outputs(owned, others, seed=3).outputs[half])


def _set(norms: Iterable[OwnedBatchNorm], included: Tensor) -> None:
    for norm in norms:
        norm.included = included


def _is_owned(buffer: str, norms: dict[str, OwnedBatchNorm]) -> bool:
    return buffer.rpartition(".")[0] in norms


def _refuse_shared(first: nn.Module, again: nn.Module) -> None:
    theirs = {weight.untyped_storage().data_ptr() for weight in first.parameters() if weight.numel()}
    ours = {weight.untyped_storage().data_ptr() for weight in again.parameters() if weight.numel()}
    if first is again or theirs & ours:
        raise ModelError(
            "The factory gave the same module, or weights in the same memory, twice. Every run needs a network of its "
            "own: make it inside the factory (a trained one: load it or copy.deepcopy it there; a tensor that becomes "
            "a weight: clone() it)."
        )
    one, two = dict(first.named_parameters()), dict(again.named_parameters())
    changed = [
        name for name in {**one, **two} if not (name in one and name in two and torch.equal(one[name], two[name]))
    ]
    if changed:
        raise ModelError(
            f"The factory made two networks from the same seed, and {changed[0]} differs, so that no run could be "
            f"repeated. Draw initial weights from torch's global generator, which byrote seeds, not from numpy's or "
            f"Python's."
        )


def _jitter(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(JITTER * noise.to(weight.device))


class _Pass(NamedTuple):
    outputs: Float[Tensor, "batch output"]
    drew: bool
    """From torch's generator."""
    drew_elsewhere: bool
    """From Python's or numpy's."""


def _outputs(module: nn.Module, x: Tensor, *, seed: int) -> _Pass:
    with seeded(seed, x.device) as generator, torch.no_grad():
        before, elsewhere = generator.get_state(), repr(other_generators())
        try:
            outputs = module(x)
        except Exception as error:
            mode = "training" if module.training else "evaluation"
            raise ModelError(
                f"The model failed on inputs of shape {tuple(x.shape)} in {mode} mode: {describe_failure(error)}"
            ) from error
        drew = not torch.equal(before, generator.get_state())
        return _Pass(outputs.reshape(len(x), -1), drew, repr(other_generators()) != elsewhere)


def _refuse_writing(before: Tensor, after: Tensor) -> None:
    if not torch.equal(before, after):
        raise ModelError(
            "The model writes into its inputs, which are the data that other networks are trained on. Take "
            "inplace=True, or x.mul_() and its like, off what the inputs reach first."
        )


def _refuse_random(one: Tensor, two: Tensor, *, drew: bool) -> None:
    if drew or not _same(one, two):
        raise ModelError(
            "The model draws random numbers in evaluation mode, so that two passes over the same inputs differ. "
            "Let it draw only when self.training is true."
        )


def _refuse_mixing(together: Tensor, alone: Tensor) -> None:
    if not _same(together, alone):
        raise ModelError(
            "In evaluation mode the model's answer to one example depends on the other examples in its batch (batch "
            "statistics without running averages, or attention across the batch). Examples left out would reach the "
            "training, and nothing said of a single example would hold. Give BatchNorm track_running_stats=True, or "
            "use GroupNorm."
        )


def _reason_against(method: Method, make: Callable[[int], nn.Module], x: Tensor) -> str:
    """Stack two different networks and compare the second with itself alone; empty when all is well.

    Once with one rate for all dropout layers, once with each layer's own.
    """
    for rate in (RATE, math.nan):
        own = _answers(networks_of("single", [_ready(make, 0, x)], device=x.device), x, seeds=(0,), rate=rate)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="There is a performance drop")
                pair = networks_of(method, [_ready(make, 1, x), _ready(make, 0, x)], device=x.device)
                both = _answers(pair, x, seeds=(1, 0), rate=rate)
        except Exception as error:
            return f"it cannot be run together with others: {type(error).__name__}: {error!s:.200}"
        for what, together, alone in zip(both._fields, both, own, strict=True):
            if set(together) != set(alone):
                return "stacked, it has other parameters and buffers than the module itself"
            if any(not _same(together[name][1], alone[name][0]) for name in alone):
                return f"stacked, it gives other {what} than the module itself"
    return ""


def _ready(make: Callable[[int], nn.Module], seed: int, x: Tensor) -> nn.Module:
    module = make(seed).to(x.device)
    _jitter(module, seed)
    return module


class _Answers(NamedTuple):
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]
    """What a step of gradient descent at a rate of 1 takes away from the state."""


def _answers(networks: AbstractNetworks, x: Tensor, *, seeds: Sequence[int], rate: float) -> _Answers:
    """In evaluation mode on shared inputs, and in a training pass, on inputs of one's own, on half the examples with
    dropout.
    """
    shared = x.expand(len(seeds), *x.shape)
    included = torch.ones(len(seeds), len(x), dtype=torch.bool, device=x.device)
    included[:, 1::2] = False
    keys = run_keys(seeds, "inspection", device=x.device)
    dropout = torch.full((len(seeds),), rate, dtype=x.dtype, device=x.device)
    evaluated = networks.outputs(shared)
    before = {name: part.clone() for name, part in networks.state().items()}
    learnt = networks.forward(shared.contiguous(), Pass(included, keys, dropout, 0)).clone()
    gradients = networks.gradients(torch.where(included[..., None], 2 * learnt, 0))
    rulebook = Rulebook([Recipe(optimiser=SGD(lr=1.0, momentum=0.0))] * len(seeds), total=1, device=x.device)
    with torch.no_grad():
        update(
            rulebook.at(Batch(0, 0, 0, len(x), 0)),
            weights=networks.weights,
            gradients=gradients,
            state=OptimiserState(),
        )
    changes = {name: before[name] - part for name, part in networks.state().items() if part.is_floating_point()}
    return _Answers({"evaluation": evaluated, "training": learnt}, changes)


def _same(one: Tensor, two: Tensor) -> bool:
    tolerance = TOLERANCE[one.dtype]
    scale = max(1.0, float(two.detach().abs().max())) if two.numel() else 1.0
    return torch.allclose(one, two, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
