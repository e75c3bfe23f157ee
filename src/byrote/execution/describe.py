"""Baselines in words."""

from typing import assert_never

from byrote.records import ExactMatch, FitSpec, Forest, KernelMachine, NearestNeighbours


def describe(spec: FitSpec) -> str:
    """A baseline in words: `forest`, `5 nearest neighbours`."""
    match spec.baseline:
        case NearestNeighbours(num_neighbours=1):
            return "nearest neighbour"
        case NearestNeighbours(num_neighbours=number):
            return f"{number} nearest neighbours"
        case KernelMachine(kernel=kernel):
            return f"{kernel} kernel machine"
        case ExactMatch() | Forest() as baseline:
            return baseline.kind.replace("-", " ")
        case _:
            assert_never(spec.baseline)
