"""From a spec to a module with fresh weights."""

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from byrote.core import ModelError, derive, load_attribute
from byrote.data import Task
from byrote.models.catalogue import MODELS, Shape
from byrote.records import ModelSpec


def build(spec: ModelSpec, *, task: Task, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Make one network on the CPU, initialised from the seed; torch's global generator is left as it was.

    Args:
        spec: which network.
        task: gives the shapes; a user's factory is called with it if it takes an argument.
        seed: the run's seed.
        dtype: the precision of its parameters.

    Raises:
        ModelError: the factory fails, does not make a module, or the module's outputs do not fit the targets.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "initialisation"))
        module = _make(spec, task)
        if not isinstance(module, nn.Module):
            raise ModelError(f"Expected {spec.name} to make a torch.nn.Module, got {type(module).__name__}.")
        module = module.to(dtype)
        _check(module, spec=spec, task=task, dtype=dtype)
    return module


def _make(spec: ModelSpec, task: Task) -> Any:
    if ":" not in spec.name and spec.factory is None:
        return MODELS[spec.name].build(Shape(task.input_shape, task.num_outputs), **dict(spec.arguments))
    factory = spec.factory or load_attribute(spec.name)
    if isinstance(factory, nn.Module):
        raise ModelError(
            f"{spec.name} is one trained or half-trained module. Every run needs a network of its own: "
            f"hand over its class or a function that makes it."
        )
    try:
        return factory(task) if _takes_task(factory) else factory()
    except Exception as error:
        raise ModelError(f"{spec.name} failed to make a model: {_where(error)}") from error


def _takes_task(factory: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.default is p.empty for p in positional) or any(p.name == "task" for p in positional)


def _check(module: nn.Module, *, spec: ModelSpec, task: Task, dtype: torch.dtype) -> None:
    """Put two examples through the module; a mismatch found here costs nothing."""
    inputs = torch.as_tensor(task.normalise(task.train.x[:2])).to(dtype).reshape(-1, *task.input_shape)
    was_training = module.training
    try:
        with torch.no_grad():
            outputs = module.eval()(inputs)
    except Exception as error:
        raise ModelError(
            f"{spec.name} could not take a batch of inputs of shape {tuple(inputs.shape)}: {_where(error)}"
        ) from error
    module.train(was_training)
    wanted = (len(inputs), task.num_outputs)
    got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if got == (len(inputs),) and task.num_outputs == 1:
        return
    if got != wanted:
        meaning = f"one logit for each of the {task.num_classes} classes" if task.num_classes else "one number"
        raise ModelError(
            f"Expected {spec.name} to turn inputs of shape {tuple(inputs.shape)} into outputs of shape {wanted} "
            f"({meaning} per example), got {got}."
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ModelError(f"{spec.name} has no parameters to train.")


def _where(error: BaseException) -> str:
    """The error's own words, and the user's line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parent.parent)
    theirs = [frame for frame in frames if not frame.filename.startswith(ours) and "/torch/" not in frame.filename]
    place = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}{place}"
