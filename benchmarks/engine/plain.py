"""The plain PyTorch loop, tensors in memory, each batch a slice of a permutation."""

from collections.abc import Sequence

import torch
from benchmarks.engine.work import Tensors, Train, Work, new_network, tensors
from torch.nn import functional


def prepare(work: Work) -> Train:
    """One network after the other."""
    data = tensors(work)

    def train(seeds: Sequence[int]) -> list[float]:
        return [_train(work, data, seed) for seed in seeds]

    return train


def _train(work: Work, data: Tensors, seed: int) -> float:
    network, case = new_network(work, seed), work.case
    optimiser = case.torch_optimiser(network.parameters())
    accuracy = 0.0
    for _ in range(case.epochs):
        network.train()
        order = torch.randperm(len(data.train_x), device=work.device)
        for batch in order.split(case.batch_size):
            optimiser.zero_grad()
            loss = functional.cross_entropy(network(data.train_x[batch]), data.train_y[batch])
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            accuracy = (network(data.test_x).argmax(1) == data.test_y).float().mean().item()
    return accuracy
