"""The scores of `byrote.Recorder` and the curves of `byrote.Monitor` inside other people's training loops.

`byrote.integrations.lightning` and `byrote.integrations.transformers` each have a callback for a recorder and one for a
monitor, and need their extra (`pip install 'byrote[lightning]'`, `'byrote[transformers]'`). What is here needs none;
`LightningMonitor` and `TransformersMonitor` can be had from here too, and are imported when they are first used.
"""

import importlib as _importlib
from typing import Any as _Any

from byrote.integrations.sinks import mlflow_sink, tensorboard_sink, wandb_sink
from byrote.integrations.staged import staged_scores
from byrote.integrations.with_ids import WithIds

_HOMES = {
    "LightningMonitor": "byrote.integrations.lightning",
    "TransformersMonitor": "byrote.integrations.transformers",
}

__all__ = ["WithIds", "mlflow_sink", "staged_scores", "tensorboard_sink", "wandb_sink"]


def __getattr__(name: str) -> _Any:
    if name in _HOMES:
        return getattr(_importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'byrote.integrations' has no attribute {name!r}")
