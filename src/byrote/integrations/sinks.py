"""Where a monitor's rows may go as well: each of these makes something that `Monitor(sinks=[...])` takes.

None of these packages is imported here. In a training of several processes, give sinks to one of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

PREFIX = "byrote/"
"""Of names, so that they stand together."""
STEP = "step"


def tensorboard_sink(writer: Any, *, prefix: str = PREFIX) -> Callable[[Mapping[str, float]], None]:
    """Write rows as scalars of TensorBoard.

    >>> class Writer:
    ...     def add_scalar(self, tag, value, global_step):
    ...         print(tag, value, global_step)
    >>> tensorboard_sink(Writer())({"step": 3, "lambda_max": 7.5})
    byrote/lambda_max 7.5 3

    Args:
        writer: a `SummaryWriter`, of torch or of tensorboardX.
        prefix: of the tags.
    """

    def write(row: Mapping[str, float]) -> None:
        for name, value in _measured(row).items():
            writer.add_scalar(prefix + name, value, global_step=round(row[STEP]))

    return write


def mlflow_sink(mlflow: Any, *, run: Any | None = None, prefix: str = PREFIX) -> Callable[[Mapping[str, float]], None]:
    """Log rows as metrics of an MLflow run.

    >>> class Tracking:
    ...     def log_metrics(self, metrics, step, run_id):
    ...         print(metrics, step, run_id)
    >>> mlflow_sink(Tracking())({"step": 3, "lambda_max": 7.5})
    {'byrote/lambda_max': 7.5} 3 None

    Args:
        mlflow: the module.
        run: what `mlflow.start_run()` gave; None: the run that is active by then.
        prefix: of the metrics' names.
    """
    run_id = None if run is None else run.info.run_id

    def log(row: Mapping[str, float]) -> None:
        metrics = {prefix + name: value for name, value in _measured(row).items()}
        mlflow.log_metrics(metrics, step=round(row[STEP]), run_id=run_id)

    return log


def wandb_sink(run: Any, *, prefix: str = PREFIX) -> Callable[[Mapping[str, float]], None]:
    """Log rows to a run of Weights & Biases, drawn over their own step, whatever else is logged in between.

    >>> class Run:
    ...     def define_metric(self, name, step_metric):
    ...         print(name, "over", step_metric)
    ...     def log(self, data):
    ...         print(data)
    >>> wandb_sink(Run())({"step": 3, "lambda_max": 7.5})
    byrote/* over byrote/step
    {'byrote/step': 3, 'byrote/lambda_max': 7.5}

    Args:
        run: what `wandb.init()` gave.
        prefix: of the names.
    """
    run.define_metric(f"{prefix}*", step_metric=prefix + STEP)

    def log(row: Mapping[str, float]) -> None:
        run.log({prefix + name: value for name, value in row.items()})

    return log


def _measured(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != STEP}
