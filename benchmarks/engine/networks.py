"""The networks that are trained, and how much arithmetic each is."""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

TOKENS = 64
PATCH = 4
CLASSES = 10


class Products(NamedTuple):
    """Multiplications in the matrix products of a forward pass over one example; 2 floating-point operations each."""

    first: int
    """Of the first layer, whose input needs no gradient."""
    total: int

    @property
    def forward(self) -> int:
        """Floating-point operations of a forward pass: 2·total."""
        return 2 * self.total

    @property
    def training(self) -> int:
        """Of forward pass, weight gradients and input gradients, the first layer's excepted: 2·(3·total − first)."""
        return 2 * (3 * self.total - self.first)


def dense(widths: tuple[int, ...]) -> nn.Module:
    """A multilayer perceptron with ReLU between its layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def dense_products(widths: tuple[int, ...]) -> Products:
    """Σ in·out over the layers."""
    products = [fan_in * fan_out for fan_in, fan_out in pairwise(widths)]
    return Products(products[0], sum(products))


def convolutional(channels: tuple[int, int]) -> nn.Module:
    """Two 3×3 convolutions, each with ReLU and 2×2 max-pooling, and an affine map; for images of 28×28."""
    first, second = channels
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * 7 * 7, CLASSES),
    )


def convolutional_products(channels: tuple[int, int]) -> Products:
    """9·in·out at every pixel, plus the affine map."""
    first, second = channels
    product = 28 * 28 * 9 * first
    return Products(product, product + 14 * 14 * 9 * first * second + second * 7 * 7 * CLASSES)


class Transformer(nn.Module):
    """One pre-norm transformer block on the 64 patches of 4×4 pixels of an image padded to 32×32."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Linear(PATCH * PATCH, width)
        self.position = nn.Parameter(0.02 * torch.randn(TOKENS, width))
        self.before_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.before_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.before_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch output"]:
        """Logits."""
        grid = functional.pad(x, (2, 2, 2, 2)).unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))
        tokens = self.embedding(grid.permute(0, 2, 4, 1, 3, 5).reshape(len(x), TOKENS, -1)) + self.position
        tokens = tokens + self.projection(self._attention(self.before_attention(tokens)))
        tokens = tokens + self.feed_forward(self.before_feed_forward(tokens))
        return self.head(self.before_head(tokens).mean(1))

    def _attention(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        # Written out, it costs at this size what PyTorch's fused attention does, which torch.func cannot stack.
        query, key, value = self.query_key_value(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(3)
        return (weights @ value).transpose(1, 2).flatten(2)


def transformer_products(width: int) -> Products:
    """16·d for embedding, 12·d² for the block's affine maps and 2·64·d for attention, at each of 64 tokens; 10·d."""
    embedding = TOKENS * PATCH * PATCH * width
    block = TOKENS * (12 * width * width + 2 * TOKENS * width)
    return Products(embedding, embedding + block + width * CLASSES)
