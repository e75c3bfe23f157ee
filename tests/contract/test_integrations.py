"""What the integrations share: ids for data sets, parts of batches, and packages that only they need."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from byrote.integrations import WithIds
from byrote.integrations.parts import Part, part_of

FRAMEWORKS = ("lightning", "pytorch_lightning", "transformers", "accelerate", "xgboost", "lightgbm", "catboost")

OUTSIDE = f"""
import sys
import byrote, byrote.cli, byrote.integrations
byrote.Recorder, byrote.integrations.staged_scores
loaded = sorted(set(sys.modules) & set({FRAMEWORKS!r}))
print("loaded:", loaded)
for name in {FRAMEWORKS!r}:
    sys.modules[name] = None
for name in ("lightning", "transformers"):
    try:
        __import__("byrote.integrations." + name)
    except byrote.ByroteError as error:
        print(type(error).__name__, error)
"""


def test_nobody_else_loads_a_framework_and_what_is_missing_is_said() -> None:
    done = subprocess.run([sys.executable, "-c", OUTSIDE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "loaded: []",
        "MissingExtraError A callback for Lightning needs the package 'pytorch_lightning', which is not installed. "
        "Install it with: pip install 'byrote[lightning]'",
        "MissingExtraError A callback for Hugging Face's Trainer needs the package 'transformers', which is not "
        "installed. Install it with: pip install 'byrote[transformers]'",
    ]


def test_items_of_every_kind_get_their_number() -> None:
    assert WithIds(["a", "b"])[1] == ("b", 1)
    assert WithIds([("a", 0), ["b", 1]])[1] == ("b", 1, 1)
    assert WithIds([{"x": 5}], key="row")[0] == {"x": 5, "row": 0}
    assert WithIds(["a", "b"])[-1] == ("b", 1)
    batches = list(DataLoader(WithIds(TensorDataset(torch.arange(5) * 10)), batch_size=2))
    assert torch.cat([ids for _, ids in batches]).tolist() == list(range(5))
    anything: Any = WithIds(["a", "b"])
    assert list(anything) == [("a", 0), ("b", 1)]


def test_a_data_set_that_cannot_be_numbered_is_refused() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter([1, 2])

        def __len__(self) -> int:
            return 2

    for items in (Stream(), iter([1, 2])):
        with pytest.raises(TypeError, match=rf"a length and items by number, got {type(items).__name__}\."):
            WithIds(items)
    with pytest.raises(ValueError, match=r"Expected items without 'id', got one\. Name another"):
        WithIds([{"id": 7}])[0]
    with pytest.raises(IndexError, match="a number below 1, got 1"):
        WithIds(["a"])[1]


@pytest.mark.parametrize(
    "part", ["target", 3, ("meta", "id"), ("meta", 0), (0, "x")], ids=["key", "place", "attribute", "inside", "first"]
)
def test_a_part_that_is_not_there_is_described(part: Part) -> None:
    whole = {"x": 1, "meta": 2}
    with pytest.raises(ValueError, match=r"Expected ids at .*, got a dict of x, meta\. Say where they are with ids=…"):
        part_of(whole, part, name="ids")
