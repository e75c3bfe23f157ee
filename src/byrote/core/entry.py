"""`module:attribute`, the only code of a user's that byrote imports, because the user typed it."""

import importlib
import sys
from pathlib import Path
from typing import Any

from byrote.core.errors import UnknownNameError
from byrote.core.registry import did_you_mean


def load_attribute(entry: str) -> Any:
    """Import `module:attribute`, also from the working directory.

    >>> load_attribute("math:pi")
    3.141592653589793

    Raises:
        UnknownNameError: no such module, or no such attribute in it.
        ImportError: the module ends the program. What else it raises is passed on as it is.
    """
    module_name, _, attribute = entry.partition(":")
    if not module_name or not attribute:
        raise UnknownNameError(f"Expected 'module:attribute', got {entry!r}.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise
        raise UnknownNameError(
            f"No module {module_name!r} in {here} or among the installed packages (from {entry!r})."
        ) from error
    except SystemExit as error:
        raise ImportError(
            f"{module_name} ends the program when it is imported. Put what it runs as a script under "
            f"if __name__ == '__main__':"
        ) from error
    for name in attribute.split("."):
        if not hasattr(value, name):
            hint = did_you_mean(name, [known for known in dir(value) if not known.startswith("_")])
            raise UnknownNameError(f"The module {module_name!r} has no attribute {name!r}.{hint}")
        value = getattr(value, name)
    return value
