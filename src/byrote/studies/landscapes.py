"""What the loss looks like around the end of a training, as figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped

from byrote.data import Task
from byrote.measures.curvature import Raster, SpectralDensity, loss_surface, raster_of, trajectory_plane
from byrote.probing import BLOCK, Examined, restored
from byrote.records import Bar, Bars, Curves, Heatmap, ProbeResult, RunSpec, Series
from byrote.studies.wording import percent

NUM_SHADES = 31
"""Rows and columns of a drawn plane."""
NUM_PLANE_POINTS = 81
"""At which the loss is looked at around a trajectory."""
TOLERANCE = 0.001
"""As a share of the loss's range, at which points are dense enough."""
NUM_DENSITY_POINTS = 241
RELATIVE_WIDTH = 0.01
"""Of the range of eigenvalues, by which each is blurred."""
LEAST_DENSITY = 1e-6
"""Below this share of the highest, a density is not drawn."""

Said = Mapping[str, np.ndarray]
"""What probes said of one run in the end."""


def line_figures(ends: Mapping[str, Said], *, labels: str, unit: str) -> Iterator[Curves]:
    """Loss along a random direction, of one run of each recipe, in training and held out.

    Args:
        ends: by recipe.
        labels: what they were trained on.
        unit: of the loss.
    """
    drawn = {name: said for name, said in ends.items() if "line_train" in said}
    for split, what in (("train", "training"), ("heldout", "held-out")) if drawn else ():
        series = tuple(_line(name, said, split) for name, said in drawn.items())
        yield Curves(
            title=f"{what.capitalize()} loss around the ends on {labels}",
            x_label="along a random direction, in lengths of the weights",
            y_label=unit,
            series=series,
            log_y=all(isinstance(y, float) and y > 0 for line in series for y in line.y),
            caption="One network of each recipe, the first seed's, along the same direction, as long as the weights "
            "filter by filter: a rescaling of layers does not change the picture. Bands are 95 % intervals for all "
            f"{what} examples, on the log scale. One direction of many thousands is a picture, not a test.",
        )


def _line(name: str, said: Said, split: str) -> Series:
    values = said[f"line_{split}"]
    known = np.isfinite(values)
    values, x = values[known], said["line_coordinates"][known, 0]
    # Of numbers that are not negative, s/√n is at most the mean.
    factor = np.exp(1.96 * np.nan_to_num(said[f"line_{split}_se"][known] / np.where(values > 0, values, np.inf)))
    return Series(
        name=name,
        x=tuple(x.tolist()),
        y=tuple(values.tolist()),
        low=tuple((values / factor).tolist()),
        high=tuple((values * factor).tolist()),
    )


def plane_figures(ends: Mapping[str, Said], *, labels: str, unit: str) -> Iterator[Heatmap]:
    """Training loss over the plane of two random directions, of one run of each recipe; as `line_figures`."""
    for name, said in ends.items():
        known = np.isfinite(said["plane_train"]) if "plane_train" in said else np.zeros(0, dtype=bool)
        if known.sum() < 4:
            continue
        yield _heatmap(
            raster_of(said["plane_coordinates"][known], said["plane_train"][known], num=NUM_SHADES),
            title=f"Around the end of {name} on {labels}",
            axes=("first random direction", "second random direction"),
            value_label=unit,
            caption="Training loss of the first seed's network over the same two directions for every recipe, as long "
            "as the weights filter by filter: a rescaling of layers does not change the picture.",
        )


def density_figure(ends: Mapping[str, Said]) -> Curves | None:
    """How the Hessian's eigenvalues are spread, of one run on each kind of labels."""
    drawn = {name: said for name, said in ends.items() if _has_density(said)}
    if not drawn:
        return None
    nodes = np.concatenate([said["density_nodes"].ravel() for said in drawn.values()])
    width = RELATIVE_WIDTH * float(np.ptp(nodes)) or 1.0
    at = np.linspace(nodes.min() - 4 * width, nodes.max() + 4 * width, NUM_DENSITY_POINTS)
    heights = {name: _density(said).density(at, width=width) for name, said in drawn.items()}
    floor = LEAST_DENSITY * max(height.max() for height in heights.values())
    return Curves(
        title="How the Hessian's eigenvalues are spread",
        x_label="eigenvalue",
        y_label="density, log scale",
        series=tuple(
            Series(name=name, x=tuple(at.tolist()), y=tuple(value if value > floor else None for value in row.tolist()))
            for name, row in heights.items()
        ),
        log_y=True,
        caption="Own recipe, the first seed, by stochastic Lanczos quadrature from two random directions; each "
        f"eigenvalue is blurred by {width:.2g}. Does not survive a rescaling of layers.",
    )


def _has_density(said: Said) -> bool:
    return "density_nodes" in said and bool(np.isfinite(said["density_nodes"]).all())


def _density(said: Said) -> SpectralDensity:
    nodes, weights = said["density_nodes"], said["density_weights"]
    return SpectralDensity(nodes=nodes, weights=weights, num_parameters=0, num_products=nodes.size, cost=0.0)


def block_figure(ends: Mapping[str, Said]) -> Bars | None:
    """The largest eigenvalue of each layer's block, of one run on each kind of labels."""
    bars = tuple(
        Bar(label=f"layer {key.removeprefix(BLOCK)}", value=float(value), group=name)
        for name, said in ends.items()
        for key, value in said.items()
        if key.startswith(BLOCK) and not key.endswith("_residual")
    )
    if not bars:
        return None
    return Bars(
        title="Curvature of each layer",
        x_label="largest eigenvalue of the Hessian's block",
        bars=bars,
        caption="Own recipe, the first seed: as sharp as it is if that layer alone moved. Does not survive a rescaling "
        "of layers.",
    )


def trajectory_figure(
    spec: RunSpec, checkpoints: ProbeResult, *, task: Task, examined: Examined, unit: str
) -> Heatmap | None:
    """The way that a training went, over the plane of the two directions in which it went furthest.

    Args:
        spec: of the run.
        checkpoints: its weights at several moments, the last one after training.
        task: the whole task.
        examined: on which examples the loss is looked at.
        unit: of the loss.
    """
    [last] = restored([(spec, state_of(checkpoints))], task=task, examined=examined)
    names = last.objective.weights.names
    moments = torch.stack([_flat(checkpoints, names, moment) for moment in range(len(checkpoints.steps))])
    if len(moments) < 3 or not bool(moments.isfinite().all()):
        return None
    try:
        plane = trajectory_plane(moments)
    except ValueError:  # It went along a line, or nowhere.
        return None
    low, high = plane.box()
    surface = loss_surface(
        last.objective,
        directions=plane.directions,
        centre=plane.centre,
        low=low,
        high=high,
        num_points=NUM_PLANE_POINTS,
        tolerance=TOLERANCE,
    )
    x, y = plane.coordinates.T.tolist()
    first, second = (percent(float(share)) for share in plane.shares)
    walk = percent(float(plane.by_chance.sum()))
    return _heatmap(
        surface.on_grid(surface.train.loss, num=NUM_SHADES),
        title="The way to the end",
        axes=(f"first principal direction ({first})", f"second ({second})"),
        value_label=unit,
        paths=(Series(name="training", x=tuple(x), y=tuple(y)),),
        caption="Training loss over the plane in which the first seed's network on true targets went furthest, own "
        "recipe; the large dot is the end. In brackets the shares of the way's variance; a random walk would have "
        f"{walk} of its own in such a plane. Does not survive a rescaling of layers.",
    )


def state_of(checkpoints: ProbeResult, *, moment: int = -1) -> dict[str, torch.Tensor]:
    """Parameters and buffers that a checkpoint kept."""
    return {name: torch.as_tensor(part[moment]) for name, part in checkpoints.values.items()}


def _flat(checkpoints: ProbeResult, names: Sequence[str], moment: int) -> Float[torch.Tensor, "parameter"]:
    parts: list[Shaped[np.ndarray, "_"]] = [checkpoints.values[name][moment].ravel() for name in names]
    return torch.as_tensor(np.concatenate(parts))


def _heatmap(
    raster: Raster, *, title: str, axes: tuple[str, str], value_label: str, caption: str, **more: Any
) -> Heatmap:
    values = tuple(tuple(value if np.isfinite(value) else None for value in row) for row in raster.values.tolist())
    return Heatmap(
        title=title,
        x_label=axes[0],
        y_label=axes[1],
        value_label=value_label,
        x=tuple(raster.x.tolist()),
        y=tuple(raster.y.tolist()),
        values=values,
        contours=True,
        log=all(value is None or value > 0 for row in values for value in row),
        caption=caption,
        **more,
    )
