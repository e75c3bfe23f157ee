"""The errors a caller may want to tell apart.

    ByroteError
    ├── DataError           (ValueError)   the examples are not what a task needs
    ├── SpecError           (ValueError)   a recipe, spec or stored record is malformed
    ├── UnknownNameError    (ValueError)   no task, model or study of that name
    ├── ModelError          (ValueError)   the user's model does not fit the task
    ├── BudgetError         (ValueError)   the budget is too small for what was asked
    ├── StoreError          (OSError)      a folder cannot be read or written
    └── MissingExtraError   (ImportError)  an optional package is not installed

A plain wrong value is a `ValueError` and a wrong kind a `TypeError`, as everywhere in Python.
"""


class ByroteError(Exception):
    """The root of every error that byrote raises on purpose."""


class DataError(ByroteError, ValueError):
    """The examples are not what a task needs."""


class SpecError(ByroteError, ValueError):
    """A recipe, spec or stored record is malformed."""


class UnknownNameError(ByroteError, ValueError):
    """No task, model or study has that name."""


class ModelError(ByroteError, ValueError):
    """The user's model does not fit the task."""


class BudgetError(ByroteError, ValueError):
    """The budget is too small for what was asked."""


class StoreError(ByroteError, OSError):
    """A folder cannot be read or written."""


class MissingExtraError(ByroteError, ImportError):
    """An optional package is not installed."""
