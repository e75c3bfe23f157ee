"""Packages that only some users need."""

import importlib
from types import ModuleType

from byrote.core.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Args:
        module: the module's name.
        extra: the extra of byrote that brings it.
        purpose: what it is needed for, as the subject of the message.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{purpose} needs the package {module!r}, which is not installed. "
            f"Install it with: pip install 'byrote[{extra}]'"
        ) from error
