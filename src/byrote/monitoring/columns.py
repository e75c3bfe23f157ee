"""What a row of a monitor's table holds."""

from collections.abc import Iterable

import pyarrow as pa

from byrote.scoring import Table

Row = dict[str, float]
"""By column, what was measured at a step; what was not is not in it."""

COLUMNS: dict[str, str] = {
    "step": "optimiser steps taken",
    "seconds": "of training until then, without measuring",
    "lr": "learning rate η",
    "loss": "mean over the probe",
    "gradient_norm": "‖g‖ of the probe's mean loss",
    "k_lambda_max": "λ¹ of the covariance K of mini-batch gradients",
    "k_lambda_max_se": "its standard error, over mini-batches",
    "k_trace": "Tr K",
    "k_trace_se": "its standard error",
    "k_conditioning": "smallest eigenvalue of K that is not 0, over the largest",
    "noise_scale": "Tr Σ/‖g‖², in examples",
    "noise_scale_se": "its standard error",
    "feature_movement": "1 − CKA of the last hidden layer with that of the first measurement",
    "distance_from_start": "‖θ − θ₀‖",
    "lambda_max": "largest eigenvalue of the Hessian",
    "lambda_max_residual": "an eigenvalue is no further away than this",
    "preconditioned_lambda_max": "the same as Adam feels it",
    "preconditioned_lambda_max_residual": "an eigenvalue is no further away than this",
    "stability": "sharpness over the most that the optimiser can bear; λη/2 for gradient descent",
    "curvature_variance": "s², of the examples' curvatures along the sharpest direction",
    "curvature_variance_se": "its standard error",
    "growth": "mean square growth along the sharpest direction at each step; 1 is break-even",
    "fisher_trace": "Tr F, labels drawn from the model",
    "fisher_trace_se": "its standard error, over draws",
    "cost": "gradients of the probe that the row took",
    "share": "seconds of measuring for each second of training, so far",
}
"""What is in which column, in their order."""

WHOLE = "step"


def table(rows: Iterable[Row], *, notes: Iterable[str]) -> Table:
    """One row for each measurement; what was not measured is null."""
    schema = pa.schema([(name, pa.int64() if name == WHOLE else pa.float64()) for name in COLUMNS])
    arrow = pa.Table.from_pylist([{**row, WHOLE: round(row[WHOLE])} for row in rows], schema=schema)
    return Table(arrow).with_notes(list(notes))
