"""A worker that ends before it is ready."""

import os


def stillborn(*given: object) -> None:
    os._exit(7)
