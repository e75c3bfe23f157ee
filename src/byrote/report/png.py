"""Pixels to PNG, without an imaging library."""

import base64
import struct
import zlib

from byrote.records import ImageContent

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 3: 2}


def png(image: ImageContent) -> bytes:
    """Encode an image as 8-bit PNG: signature, header, one zlib stream of unfiltered rows, end (ISO/IEC 15948).

    >>> png(ImageContent(height=1, width=1, channels=1, pixels=(255,)))[:4]
    b'\\x89PNG'

    Args:
        image: grey or colour pixels, 0 to 255, row by row.

    Returns:
        The file's bytes.

    Raises:
        ValueError: the number of pixels is not height × width × channels, or a value is outside 0 to 255.
    """
    stride = image.width * image.channels
    expected = image.height * stride
    if len(image.pixels) != expected or expected == 0:
        raise ValueError(
            f"Expected {image.height} × {image.width} × {image.channels} = {expected} pixel values and at least one, "
            f"got {len(image.pixels)}."
        )
    if min(image.pixels) < 0 or max(image.pixels) > 255:
        raise ValueError(f"Expected pixels from 0 to 255, got {min(image.pixels)} to {max(image.pixels)}.")
    values = bytes(image.pixels)
    rows = b"".join(b"\x00" + values[start : start + stride] for start in range(0, expected, stride))
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, _COLOUR_TYPE[image.channels], 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")


def data_uri(image: ImageContent) -> str:
    """Write an image as a `data:` address, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")


def _chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
