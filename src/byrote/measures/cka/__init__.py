"""Centred kernel alignment: how alike two representations of the same examples are, or one and the targets."""

from byrote.measures.cka.maps import CkaMap, cka_map
from byrote.measures.cka.pairs import Cka, CkaStatus, linear_cka
from byrote.measures.cka.targets import target_alignment

__all__ = ["Cka", "CkaMap", "CkaStatus", "cka_map", "linear_cka", "target_alignment"]
