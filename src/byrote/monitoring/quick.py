"""What about one gradient of the probe tells."""

from typing import final

from jaxtyping import Float
from torch import Tensor

from byrote.measures.cka import linear_cka
from byrote.measures.curvature import GradientCovariance, gradient_covariance, noise_scale
from byrote.monitoring.columns import Row
from byrote.monitoring.hidden import Hidden
from byrote.monitoring.objectives import Objectives
from byrote.monitoring.processes import Processes

NAN = float("nan")
OF_COVARIANCE = ("k_lambda_max", "k_conditioning", "noise_scale")
SINGLE = (
    "k_lambda_max, k_trace, k_conditioning and noise_scale are not measured: they need at least two mini-batches of "
    "one size. Give a probe of several examples, in tensors with one row for each, or a list of batches."
)
SILENT = (
    "feature_movement is not measured: no layer with weights is called before a last linear one, once for each batch. "
    'Name a layer whose output is to be compared: Monitor(…, features="layer").'
)
ALIKE = (
    "feature_movement is not measured where the features of the probe's examples do not differ from one another. Give "
    "a probe of more examples."
)
UNLIKE = (
    "k_lambda_max, k_trace, k_conditioning and noise_scale are not measured: every process has a part of each "
    "mini-batch, so that all need as many of them. Give every process a probe of as many examples."
)


@final
class Quick:
    """Loss, gradient, covariance of gradients, features and distance, each against where the run began."""

    def __init__(
        self, objectives: Objectives, *, processes: Processes, notes: dict[str, str], layer: str | None
    ) -> None:
        """Remember the weights of now.

        Args:
            objectives: of the probe.
            processes: that measure together.
            notes: where it is written why something is not measured, by column.
            layer: whose output is compared; None: what the last linear layer is given.

        Raises:
            UnknownNameError: there is no such layer.
        """
        self._objectives, self._processes, self._notes = objectives, processes, notes
        self._hidden = Hidden(objectives.whole.model, layer)
        self.start = objectives.whole.flat_weights()
        self.features: Float[Tensor, "example feature"] | None = None
        """Of the first measurement."""

    def __call__(self) -> Row:
        """Measure."""
        whole = self._objectives.whole
        with whole.opened():
            with self._hidden.heard():
                loss = whole.value()
            covariance = self._covariance()
            if covariance is None or self._processes.several or not self._objectives.complete:
                length = float(whole.gradient().norm())
            else:
                length = float(covariance.products.mean().clip(min=0)) ** 0.5
        distance = float((whole.flat_weights() - self.start.to(self._objectives.device)).double().norm())
        row = {"loss": loss, "gradient_norm": length, "distance_from_start": distance}
        return row | ({} if covariance is None else _of_covariance(covariance)) | self._movement(self._hidden.rows())

    def _covariance(self) -> GradientCovariance | None:
        """Of the mini-batches of all processes together, if there are several of one size."""
        parts = self._objectives.parts
        if parts.is_alike and len(parts.batches) > 1:
            return gradient_covariance(parts)
        self._notes |= dict.fromkeys(OF_COVARIANCE, SINGLE if parts.is_alike else UNLIKE)
        return None

    def _movement(self, rows: Float[Tensor, "example feature"] | None) -> Row:
        if self.features is None:
            self.features = rows
        found = None
        if rows is not None and self.features is not None and rows.shape == self.features.shape:
            found = linear_cka(self.features.to(rows.device), rows).value
        (value,) = self._processes.means([NAN if found is None else 1 - found], like=self._objectives.like)
        if rows is None:
            self._notes["feature_movement"] = SILENT
        elif found is None and bool(rows.isfinite().all()):
            self._notes["feature_movement"] = ALIKE
        return {} if found is None else {"feature_movement": value}


def _of_covariance(found: GradientCovariance) -> Row:
    noise = noise_scale(found)
    return {
        "k_lambda_max": found.value,
        "k_lambda_max_se": found.top_se,
        "k_trace": found.trace,
        "k_trace_se": found.trace_se,
        "k_conditioning": found.smallest_over_largest,
        "noise_scale": noise.value,
        "noise_scale_se": noise.se,
    }
