"""What two recorders must have in common to be one."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import final

import torch
from jaxtyping import UInt8
from torch import Tensor

from byrote.core import SpecError
from byrote.scoring.tally import Rule

VERSION = 1
"""Of what is stored."""


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a recorder was made."""

    num_examples: int
    names: tuple[Hashable, ...] | None
    """None: 0 to n − 1."""
    rule: Rule
    told: bool
    num_outputs: int | None = None
    """Columns of the logits; None: nothing was recorded yet."""

    def check(self, other: "Settings") -> None:
        """Refuse another recorder's visits where they mean something else.

        Raises:
            SpecError: with what differs.
        """
        for name, own, theirs in (
            ("examples", self.num_examples, other.num_examples),
            ("epochs", _word(self), _word(other)),
            *((each.name, getattr(self.rule, each.name), getattr(other.rule, each.name)) for each in fields(Rule)),
        ):
            if own != theirs:
                raise SpecError(f"Expected a recorder with {name} {own!r}, as this one has, got {theirs!r}.")
        if None not in (self.num_outputs, other.num_outputs) and self.num_outputs != other.num_outputs:
            raise SpecError(
                f"Expected a recorder of a model with {self.num_outputs} outputs, as this one has seen, got one with "
                f"{other.num_outputs}."
            )
        if self.names != other.names:
            raise SpecError("Expected a recorder of the same ids in the same order, got one of others.")

    def as_tensor(self) -> UInt8[Tensor, "byte"]:
        """JSON, as bytes, so that a state is tensors only.

        Raises:
            TypeError: ids are neither text nor whole numbers.
        """
        strange = [name for name in self.names or () if type(name) not in (str, int)]
        if strange:
            raise TypeError(f"Expected ids that are text or whole numbers, to be stored, got {strange[0]!r}.")
        plain = {"version": VERSION, "num_examples": self.num_examples, "told": self.told, "rule": asdict(self.rule)}
        text = json.dumps(plain | {"names": self.names, "num_outputs": self.num_outputs})
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    @staticmethod
    def of_state(state: Mapping[str, Tensor]) -> "Settings":
        """The settings in a stored state.

        Raises:
            SpecError: it is no recorder's state, or one of a newer byrote.
        """
        if "settings" not in state or "tally.sums" not in state:
            raise SpecError(f"Expected a recorder's state, got one of {', '.join(sorted(state)[:5]) or 'nothing'}.")
        plain = json.loads(bytes(state["settings"].cpu().tolist()))
        if plain.get("version") != VERSION:
            raise SpecError(
                f"Expected a recorder's state of version {VERSION}, got {plain.get('version')!r}. Update byrote."
            )
        names = plain["names"]
        return Settings(
            num_examples=plain["num_examples"],
            names=None if names is None else tuple(names),
            rule=Rule(**plain["rule"]),
            told=plain["told"],
            num_outputs=plain.get("num_outputs"),
        )


def _word(settings: Settings) -> str:
    return "told" if settings.told else "found"
