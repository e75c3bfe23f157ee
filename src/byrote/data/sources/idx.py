"""The IDX format of the MNIST family: a magic number, the dimensions, the values; big-endian, often gzipped."""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from byrote.core import DataError

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, *, num_dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Read the unsigned bytes of an IDX file, gzipped or plain.

    Args:
        path: the file; gzipped if its name ends in .gz.
        num_dimensions: how many dimensions it must have (3 for images, 1 for labels).

    Raises:
        DataError: not an IDX file of unsigned bytes, other dimensions, or cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"Cannot read {path}: {error}. Download it again.") from error
    magic = bytes([0, 0, UNSIGNED_BYTE, num_dimensions])
    if content[:4] != magic:
        raise DataError(
            f"Expected {path} to begin with the magic number 0x{magic.hex()} of an IDX file of unsigned bytes in "
            f"{num_dimensions} dimension(s), got 0x{content[:4].hex()}."
        )
    start = 4 + 4 * num_dimensions
    if len(content) < start:
        raise DataError(f"{path} is cut short within its header, at {len(content)} bytes. Download it again.")
    shape = struct.unpack(f">{num_dimensions}I", content[4:start])
    if len(content) - start != prod(shape):
        raise DataError(
            f"Expected {prod(shape):,} values in {path} for its dimensions {shape}, got {len(content) - start:,}. "
            f"Download it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
