"""What about one gradient of the probe tells."""

from typing import final

from jaxtyping import Float
from torch import Tensor

from byrote.measures.cka import linear_cka
from byrote.measures.curvature import GradientCovariance, NoiseScale, gradient_covariance, noise_scale
from byrote.monitoring.columns import Row
from byrote.monitoring.hidden import Hidden
from byrote.monitoring.objectives import Objectives
from byrote.monitoring.processes import Processes

NAN = float("nan")


@final
class Quick:
    """Loss, gradient, covariance of gradients, features and distance, each against where the run began."""

    def __init__(self, objectives: Objectives, *, processes: Processes, layer: str | None) -> None:
        """Remember the weights of now.

        Raises:
            UnknownNameError: there is no such layer.
        """
        self._objectives, self._processes = objectives, processes
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
            covariance = gradient_covariance(parts) if len((parts := self._objectives.parts).batches) > 1 else None
            if covariance is None or self._processes.several or not self._objectives.complete:
                length = float(whole.gradient().norm())
            else:
                length = max(0.0, float(covariance.products.mean())) ** 0.5
        distance = float((whole.flat_weights() - self.start.to(self._objectives.device)).double().norm())
        row = {"loss": loss, "gradient_norm": length, "distance_from_start": distance}
        return row | self._of_covariance(covariance) | self._movement(self._hidden.rows())

    def _of_covariance(self, found: GradientCovariance | None) -> Row:
        """Means over processes, each of which has a covariance of its own mini-batches."""
        if found is None and not self._processes.several:
            return {}
        noise = None if found is None else noise_scale(found)
        own = [NAN] * 7 if found is None or noise is None else _numbers(found, noise)
        means = self._processes.means(own, like=self._objectives.like)
        root = self._processes.count(like=self._objectives.like) ** 0.5
        top, top_variance, trace, trace_variance, conditioning, noise_trace, squared = means
        row = {
            "k_lambda_max": top,
            "k_lambda_max_se": top_variance**0.5 / root,
            "k_trace": trace,
            "k_trace_se": trace_variance**0.5 / root,
            "k_conditioning": conditioning,
            "noise_scale": noise_trace / squared if squared > 0 else float("inf") if squared <= 0 else NAN,
        }
        return row if noise is None or self._processes.several else row | {"noise_scale_se": noise.se}

    def _movement(self, rows: Float[Tensor, "example feature"] | None) -> Row:
        if self.features is None:
            self.features = rows
        found = None
        if rows is not None and self.features is not None and rows.shape == self.features.shape:
            found = linear_cka(self.features.to(rows.device), rows).value
        (value,) = self._processes.means([NAN if found is None else 1 - found], like=self._objectives.like)
        return {} if found is None else {"feature_movement": value}


def _numbers(found: GradientCovariance, noise: NoiseScale) -> list[float]:
    return [
        found.value,
        found.top_se**2,
        found.trace,
        found.trace_se**2,
        found.smallest_over_largest,
        noise.trace,
        noise.squared_gradient,
    ]
