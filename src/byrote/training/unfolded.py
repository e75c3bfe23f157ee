"""Convolutions as matrix products of unfolded patches, which stacks of networks multiply in one go."""

from typing import final

from torch import Tensor, nn
from typing_extensions import override


@final
class UnfoldedConvolution(nn.Module):
    """A two-dimensional convolution: every patch becomes a column, and the kernel a matrix.

    Has the parameters of the layer it takes the place of, by the same names.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        """Take the place of a layer."""
        super().__init__()
        self.weight = layer.weight
        self.register_parameter("bias", layer.bias)  # pyright: ignore
        self._kernel, self._dilation, self._stride = layer.kernel_size, layer.dilation, layer.stride
        self._padding = tuple(int(amount) for amount in layer.padding)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Unfold and multiply."""
        patches = nn.functional.unfold(x, self._kernel, self._dilation, self._padding, self._stride)
        outputs = self.weight.flatten(1) @ patches
        if self.bias is not None:
            outputs = outputs + self.bias.unsqueeze(-1)  # pyright: ignore
        return outputs.unflatten(-1, (self._extent(x.shape[-2], 0), self._extent(x.shape[-1], 1)))

    def _extent(self, size: int, axis: int) -> int:
        reach = self._dilation[axis] * (self._kernel[axis] - 1) + 1
        return (size + 2 * self._padding[axis] - reach) // self._stride[axis] + 1


def unfoldable(module: nn.Module) -> bool:
    """Whether a network has convolutions, all of which can be unfolded."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return bool(layers) and all(_can_be(layer) for layer in layers)


def unfold_convolutions(module: nn.Module) -> None:
    """Put unfolded convolutions in the place of a network's own."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, UnfoldedConvolution(child))


def _can_be(layer: nn.Conv2d) -> bool:
    plain = layer.padding_mode == "zeros" and layer.groups == 1 and not isinstance(layer.padding, str)
    return type(layer) is nn.Conv2d and plain and not layer._forward_hooks and not layer._forward_pre_hooks
