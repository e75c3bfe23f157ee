"""From a spec to a module with fresh weights."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from byrote.core import ModelError, derive, describe_failure
from byrote.models.catalogue import MODELS, Shape, load_factory
from byrote.models.learnable import Learnable
from byrote.records import ModelSpec, custom


def build(spec: ModelSpec, *, task: Learnable, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Make one network on the CPU, initialised from the seed; torch's global generator is left as it was.

    Args:
        spec: which network.
        task: gives the shapes; a user's factory is called with it if it takes an argument.
        seed: the run's seed.
        dtype: the precision of its parameters.

    Returns:
        A module that turns inputs [batch, *task.input_shape] into [batch, task.num_outputs] (or [batch] for one
        output), in the mode its author left it in.

    Raises:
        ModelError: the factory fails, does not make a module, or the module's outputs do not fit the targets.
        UnknownNameError: no such network, module or attribute.
    """
    factory = _factory(spec, task)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "initialisation"))
        try:
            module = factory()
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{spec.name} failed to make a model: {describe_failure(error)}") from error
        if not isinstance(module, nn.Module):
            raise ModelError(f"Expected {spec.name} to make a torch.nn.Module, got {type(module).__name__}.")
        module = module.to(dtype)
        _check(module, spec=spec, task=task, dtype=dtype)
    return module


def _factory(spec: ModelSpec, task: Learnable) -> Callable[[], Any]:
    """What makes the module, with its arguments bound."""
    if spec.factory is None and not spec.digest:
        entry = MODELS[spec.name]
        return lambda: entry.build(Shape(task.input_shape, task.num_outputs), **dict(spec.arguments))
    factory = spec.factory or _reload(spec)
    if isinstance(factory, nn.Module):
        raise ModelError(
            f"{spec.name} is one module, perhaps trained already. Every run needs a network of its own: "
            f"hand over its class, or a function that makes it."
        )
    return (lambda: factory(task)) if _takes_task(factory) else factory


def _reload(spec: ModelSpec) -> Callable[..., Any]:
    """A user's factory in a process that did not make the spec; other code under the same name is another model."""
    factory = load_factory(spec.name)
    if custom(factory, name=spec.name).digest != spec.digest:
        raise ModelError(f"The source of {spec.name} has changed since this run was planned. Plan it again.")
    return factory


def _takes_task(factory: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.default is p.empty for p in positional) or any(p.name == "task" for p in positional)


def _check(module: nn.Module, *, spec: ModelSpec, task: Learnable, dtype: torch.dtype) -> None:
    """Put two examples through the module; a mismatch found here costs nothing."""
    inputs = torch.as_tensor(task.first_inputs(2)).to(dtype)
    was_training = module.training
    try:
        with torch.enable_grad():
            outputs = module.eval()(inputs)
    except Exception as error:
        raise ModelError(
            f"{spec.name} could not take a batch of inputs of shape {tuple(inputs.shape)}: {describe_failure(error)}"
        ) from error
    module.train(was_training)
    _check_shape(outputs, inputs, spec=spec, task=task)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ModelError(f"{spec.name} has no parameters to train.")
    if outputs.dtype != dtype:
        raise ModelError(
            f"Expected {spec.name} to answer inputs of {dtype} with outputs of {dtype}, got {outputs.dtype}. "
            f"Make the tensors inside it with the dtype of its input."
        )
    if not outputs.requires_grad:
        raise ModelError(
            f"The outputs of {spec.name} do not depend on its trainable parameters, so there is nothing to learn: "
            f"look for detach(), torch.no_grad(), argmax() or rounding in its forward."
        )


def _check_shape(outputs: object, inputs: Tensor, *, spec: ModelSpec, task: Learnable) -> None:
    wanted = (len(inputs), task.num_outputs)
    got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if got == wanted or (got == (len(inputs),) and task.num_outputs == 1):
        return
    meaning = f"one logit for each of the {task.num_classes} classes" if task.num_classes else "one number"
    raise ModelError(
        f"Expected {spec.name} to turn inputs of shape {tuple(inputs.shape)} into outputs of shape {wanted} "
        f"({meaning} per example), got {got}."
    )
