"""A user's module, borrowed: used for a while, and left exactly as it was found."""

import random
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DataParallel, DistributedDataParallel

from byrote.models.bypassed import SAID, Bypassed, is_compiled, say_once

Model = nn.Module | Callable[[Tensor], Tensor]
"""Turns inputs [batch, ...] into logits [batch, class], or for regression numbers [batch] or [batch, 1]. What is no
module is called as it is."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, out of `torch.compile`, `DataParallel` and `DistributedDataParallel`.

    Compiled code has no second derivatives, and products are summed over processes by whoever asks for them.

    >>> inner = nn.Linear(2, 1)
    >>> unwrapped(nn.DataParallel(inner)) is inner
    True
    """
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":
            say_once(SAID["compiled"])
            model = model.get_submodule("_orig_mod")
        else:
            return model


@contextmanager
def borrowed(model: Model, *, device: torch.device, bypassed: Bypassed | None = None) -> Generator[None]:
    """For a while a module is in evaluation mode, and what it draws or writes to its buffers is forgotten afterwards.

    Attention is written out, since its fused kernels have neither second derivatives nor a batching rule; compiled code
    runs uncompiled, and gradient scalers do not scale. Hooks on gradients are silent; those on what layers put out are
    part of the model.

    Args:
        model: whose it is.
        device: of its weights.
        bypassed: where it is noted what was gone around.
    """
    bypassed = bypassed or Bypassed()
    if isinstance(model, nn.Module) and is_compiled(model):
        bypassed.say("compiled")
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_same_random_states(device))
        stack.enter_context(_attention_written_out())
        stack.enter_context(_uncompiled())
        stack.enter_context(bypassed.noticing())
        if isinstance(model, nn.Module):
            stack.enter_context(_module_as_found(model))
            stack.enter_context(_without_gradient_hooks(model))
            if device.type == "cuda" and any(isinstance(layer, nn.RNNBase) for layer in model.modules()):
                stack.enter_context(_without_cudnn())
        yield


def random_states(device: torch.device) -> tuple[object, ...]:
    """Of Python's, numpy's and torch's global generators, to be compared."""
    name, words, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    torchs = torch.random.get_rng_state().numpy().tobytes()
    devices = torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b""
    return random.getstate(), name, np.asarray(words).tobytes(), tuple(rest), torchs, devices


@contextmanager
def _module_as_found(module: nn.Module) -> Generator[None]:
    layers = list(module.modules())
    modes, buffers = [layer.training for layer in layers], [dict(layer._buffers) for layer in layers]  # pyright: ignore[reportPrivateUsage]
    trained = [(part, part.requires_grad) for part in module.parameters()]
    for layer, own in zip(layers, buffers, strict=True):
        layer.training = False
        layer._buffers.update({name: None if part is None else part.clone() for name, part in own.items()})  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        for layer, mode, own in zip(layers, modes, buffers, strict=True):
            layer.training = mode
            layer._buffers.clear()  # pyright: ignore[reportPrivateUsage]
            layer._buffers.update(own)  # pyright: ignore[reportPrivateUsage]
        for part, trains in trained:
            part.requires_grad_(trains)


@contextmanager
def _without_gradient_hooks(module: nn.Module) -> Generator[None]:
    """A user's clip or log of gradients is meant for training; it would bend or count what is measured."""
    tensors: list[Any] = [part for part in module.parameters() if part._backward_hooks]  # pyright: ignore[reportPrivateUsage]
    layers: list[Any] = [layer for layer in module.modules() if layer._backward_hooks or layer._backward_pre_hooks]  # pyright: ignore[reportPrivateUsage]
    of_tensors = [part._backward_hooks for part in tensors]
    of_layers = [(dict(layer._backward_hooks), dict(layer._backward_pre_hooks)) for layer in layers]
    for part in tensors:
        part._backward_hooks = None
    for layer in layers:
        layer._backward_hooks.clear()
        layer._backward_pre_hooks.clear()
    try:
        yield
    finally:
        for part, hooks in zip(tensors, of_tensors, strict=True):
            part._backward_hooks = hooks
        for layer, (after, before) in zip(layers, of_layers, strict=True):
            layer._backward_hooks.update(after)
            layer._backward_pre_hooks.update(before)


@contextmanager
def _same_random_states(device: torch.device) -> Generator[None]:
    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)  # noqa: NPY002


@contextmanager
def _attention_written_out() -> Generator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _uncompiled() -> Generator[None]:
    """Where nothing was ever compiled the compiler is not loaded for it, which takes seconds."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):  # pyright: ignore[reportUnknownMemberType]
        yield


@contextmanager
def _without_cudnn() -> Generator[None]:
    """Its recurrent layers go backward in training mode only, and only once."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before
