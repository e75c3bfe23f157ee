"""A data set whose items say which they are."""

from collections.abc import Mapping, Sized
from typing import Any, final

from torch.utils.data import Dataset, IterableDataset


@final
class WithIds(Dataset[Any]):
    """The same items, each with its number: the last of a tuple, or under `key` of a dictionary.

    >>> WithIds([("a", 1), ("b", 0)])[1]
    ('b', 0, 1)
    >>> WithIds([{"text": "a"}, {"text": "b"}])[1]
    {'text': 'b', 'id': 1}
    """

    def __init__(self, items: Any, *, key: str = "id") -> None:
        """Number the items of a data set.

        Args:
            items: a data set, or anything with a length and items that are found by number. One that only iterates,
                has to give its items ids itself.
            key: of the number, where items are dictionaries.

        Raises:
            TypeError: it has no length, or items are not found by number.
        """
        if isinstance(items, IterableDataset) or not isinstance(items, Sized):
            raise TypeError(
                f"Expected a data set with a length and items by number, got {type(items).__name__}. One that only "
                f"iterates has to give each item its id itself."
            )
        self._items: Any = items
        self._key = key

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Expected a number below {len(self)}, got {index}.")
        number, item = range(len(self))[index], self._items[index]
        if isinstance(item, Mapping):
            if self._key in item:
                raise ValueError(f"Expected items without {self._key!r}, got one. Name another: WithIds(…, key=…).")
            return {**item, self._key: number}
        return (*item, number) if isinstance(item, (tuple, list)) else (item, number)
