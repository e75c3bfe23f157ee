"""A task from a user's own module."""

import inspect
from typing import Any

from byrote.core import ByroteError, DataError, describe_failure, load_attribute
from byrote.data.examples import Examples
from byrote.data.sources.arrays import task_from_arrays
from byrote.data.sources.source import Options
from byrote.data.task import Task

ACCEPTED = "a Task, a tuple (x, y) or (x_train, y_train, x_test, y_test), or a function without arguments returning one"


def entry(name: str, options: Options) -> Task:
    """Load `module:attribute`, call it if it is a function, and make a task of what comes.

    Raises:
        UnknownNameError: no such module or attribute.
        DataError: it is not a task, nor a tuple of arrays, or the user's own code failed.
    """
    found = _import(name)
    value = _call(found, name) if callable(found) else found
    if isinstance(value, Task):
        options.refuse_all_but(task=name, because="it is a Task, complete as it is")
        return value
    if not isinstance(value, tuple) or len(value) not in (2, 4):
        what = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"an object of type {type(value).__name__}"
        raise DataError(f"Expected {name} to be {ACCEPTED}; got {what}.")
    options.refuse_all_but("regression", "test_fraction", task=name, because="it is a tuple of arrays")
    test = Examples(value[2], value[3]) if len(value) == 4 else None
    return task_from_arrays(Examples(value[0], value[1]), test=test, name=name, options=options)


def _import(name: str) -> Any:
    try:
        return load_attribute(name)
    except ByroteError:
        raise
    except Exception as error:
        raise DataError(f"{name} cannot be imported: {describe_failure(error)}") from error


def _call(function: Any, name: str) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise DataError(f"Expected {name} to be {ACCEPTED}; it cannot be called without arguments: {error}.") from error
    try:
        return function()
    except ByroteError:
        raise
    except Exception as error:
        raise DataError(f"{name} failed: {describe_failure(error)}") from error
