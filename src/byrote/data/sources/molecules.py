"""Molecules as fingerprints and scaffolds; the only place that knows RDKit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from byrote.core import require

RADIUS = 2
"""Bonds around an atom that a bit of the fingerprint can see: 2 is ECFP4's diameter of 4."""
NUM_BITS = 2048


class Molecules(NamedTuple):
    """Those that could be read, in order."""

    fingerprints: UInt8[np.ndarray, "molecule bit"]
    scaffolds: Shaped[np.ndarray, "molecule"]
    """Canonical SMILES of the Murcko scaffold; of a molecule without rings, `no rings`."""
    canonical: Shaped[np.ndarray, "molecule"]
    """Canonical SMILES: equal for equal molecules, however they are written."""
    readable: Bool[np.ndarray, "line"]
    """Of all that were given: which are these."""


def read_molecules(smiles: Sequence[str]) -> Molecules:
    """Read molecules, and fold their surroundings of atoms into bits.

    Morgan fingerprints of radius 2, folded to 2,048 bits (ECFP4; Rogers & Hahn 2010, Extended-Connectivity
    Fingerprints); scaffolds are all rings and what links them (Bemis & Murcko 1996, The Properties of Known Drugs).

    Args:
        smiles: one molecule each.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    chem, scaffolds, generators = (
        require(f"rdkit.Chem{name}", extra="molecules", purpose="Reading molecules")
        for name in ("", ".Scaffolds.MurckoScaffold", ".rdFingerprintGenerator")
    )
    generator: Any = generators.GetMorganGenerator(radius=RADIUS, fpSize=NUM_BITS)
    with _quietly():
        parsed = [_parsed(chem, one) for one in smiles]
        kept = [molecule for molecule in parsed if molecule is not None]
        bits = [generator.GetFingerprintAsNumPy(molecule) for molecule in kept]
        cores = [scaffolds.MurckoScaffoldSmiles(mol=molecule) or "no rings" for molecule in kept]
        written = [chem.MolToSmiles(molecule) for molecule in kept]
    return Molecules(
        fingerprints=np.stack(bits).astype(np.uint8) if bits else np.zeros((0, NUM_BITS), np.uint8),
        scaffolds=np.array(cores, dtype=str),
        canonical=np.array(written, dtype=str),
        readable=np.array([molecule is not None for molecule in parsed], dtype=bool),
    )


def _parsed(chem: Any, smiles: str) -> Any:
    """The molecule; None for what is none, and for an empty one."""
    molecule = chem.MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


@contextmanager
def _quietly() -> Iterator[None]:
    """RDKit writes every broken line to the terminal; they are counted instead."""
    logger = require("rdkit.rdBase", extra="molecules", purpose="Reading molecules")
    before = logger.BlockLogs()
    try:
        yield
    finally:
        del before
