"""What a monitor makes of a training loop that was written in a hurry."""

import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from byrote.core import ModelError
from byrote.measures.curvature import Objective, loss_surface, random_directions, top_eigenvalues
from byrote.models.borrowed import unwrapped
from byrote.models.bypassed import SAID, say_once
from monitored import X, Y, cross_entropy, network, watching

LR = 0.1


class Attentive(nn.Module):
    """An encoder layer with its default attention."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x.view(-1, 8, 8)).mean(1))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Generator[list[str]]:
    """Lines in byrote's log, as in a process that measured nothing yet."""
    say_once.cache_clear()
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("byrote")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    say_once.cache_clear()


def test_fused_attention_is_said_once(said: list[str], tmp_path: Path) -> None:
    attend = nn.functional.scaled_dot_product_attention
    net = Attentive().double()
    monitor = watching(net)
    assert monitor.notes == ()
    monitor.step(1, lr=LR)
    monitor.step(2, lr=LR)
    assert monitor.notes == (SAID["attention"],)
    assert SAID["attention"] in repr(monitor.table())
    assert "fused kernels have no second derivatives" in monitor.report(tmp_path / "page.html").read_text("utf-8")
    objective = Objective(net, loss=cross_entropy, batches=[(X, Y)])
    top_eigenvalues(objective)
    assert objective.notes == (SAID["attention"],)
    assert said == [SAID["attention"]]
    assert nn.functional.scaled_dot_product_attention is attend


def test_compiled_code_is_said_once(said: list[str]) -> None:
    compiled: Any = torch.compile(network(), backend="eager")
    monitors = [watching(compiled), watching(nn.Sequential(compiled))]
    for monitor in monitors:
        monitor.measure(1, lr=LR)
        assert monitor.notes == (SAID["compiled"],)
    assert said == [SAID["compiled"]]


def test_a_gradient_scaler_in_the_loss_is_gone_around_and_left_as_it_was(said: list[str]) -> None:
    net, scaler = network(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = scaler.state_dict()

    def scaled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return scaler.scale(cross_entropy(model, batch))

    monitor = watching(net, loss=scaled)
    assert monitor.measure(1, lr=LR)["lambda_max"] == watching(net).measure(1, lr=LR)["lambda_max"]
    assert monitor.notes == (SAID["scaler"],)
    assert said == [SAID["scaler"]]
    assert scaler.state_dict() == before
    assert scaler.scale(torch.ones(())) == 1024
    off = torch.amp.GradScaler("cpu", enabled=False)
    quiet = watching(net, loss=lambda model, batch: off.scale(cross_entropy(model, batch)))
    quiet.measure(1, lr=LR)
    assert quiet.notes == ()


def test_a_plain_model_is_measured_without_a_word(said: list[str]) -> None:
    monitor = watching(network())
    monitor.measure(1, lr=LR)
    assert monitor.notes == ()
    assert said == []


def test_a_model_is_found_in_all_its_wrappers(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        net = network()
        wrapped: Any = DistributedDataParallel(net)
        compiled: Any = torch.compile(wrapped, backend="eager")
        assert unwrapped(compiled) is net
        assert unwrapped(DistributedDataParallel(torch.compile(net, backend="eager"))) is net
    finally:
        distributed.destroy_process_group()


def test_a_surface_of_one_process_of_several_is_refused() -> None:
    objective = Objective(network(), loss=cross_entropy, batches=[(X, Y)], reduce=lambda total: 2 * total)
    with pytest.raises(ValueError, match="one process reads all of them"):
        loss_surface(objective, directions=random_directions(objective))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda model, batch: cross_entropy(model, batch).mean(),
            r"of shape \[example\] .* got torch.float64 of shape",
        ),
        (lambda model, batch: model(batch[0]).square(), r"of shape \(64, 10\). Sum or average over what else there is"),
        (nn.CrossEntropyLoss(reduction="none"), r"called as loss\(model, batch\)"),
    ],
    ids=["scalar", "per output", "of outputs"],
)
def test_a_loss_of_another_kind_is_refused_in_words(loss: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        watching(network(), loss=loss).step(1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probe": (X[:0], Y[:0])}, ValueError, "examples in every batch of the probe"),
        ({"probe": [(X, Y), (X[:0], Y[:0])]}, ValueError, "examples in every batch of the probe"),
        ({"probe": TensorDataset(X, Y)}, TypeError, "got a TensorDataset. Take as many as you mean"),
    ],
    ids=["empty", "empty batch", "data set"],
)
def test_an_argument_of_another_kind_is_refused_in_words(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        watching(network(), **options)


def test_a_single_sink_needs_no_list() -> None:
    rows: list[Any] = []
    row = watching(network(), sinks=rows.append).measure(torch.tensor(3), lr=LR)
    assert rows == [row]
    assert row["step"] == 3


def test_what_a_probe_of_one_example_cannot_tell_is_said(tmp_path: Path) -> None:
    monitor = watching(network(), probe=(X[:1], Y[:1]))
    row = monitor.measure(1, lr=LR)
    assert row["lambda_max"] > 0
    assert "k_trace" not in row
    assert "feature_movement" not in row
    assert "they need at least two mini-batches of one size" in monitor.notes[0]
    assert "Give a probe of more examples" in monitor.notes[1]
    assert "did not suffice" not in monitor.report(tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(("size", "parts"), [(31, 15), (40, 13), (64, 16), (7, 7), (2, 2)])
def test_a_probe_is_cut_without_leaving_much_of_it_out(size: int, parts: int) -> None:
    seen: list[int] = []

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(len(batch[1]))
        return cross_entropy(model, batch)

    watching(network(), loss=loss, probe=(X[:size], Y[:size])).measure(1, lr=LR)
    whole, part = max(seen), min(seen)
    assert whole == parts * part
    assert whole >= size * 7 / 8


def test_a_learning_rate_that_is_missing_is_asked_for_until_it_is_known() -> None:
    monitor = watching(network(), batch_size=8, num_examples=64)
    assert "stability" not in monitor.step(1)  # pyright: ignore[reportOperatorIssue]
    assert "monitor.step(step, lr=lr)" in monitor.notes[0]
    row: Any = monitor.step(2, lr=torch.tensor(LR))
    assert row["stability"] == pytest.approx(row["lambda_max"] * LR / 2)
    assert monitor.notes == ()
    assert monitor.table()["lr"].tolist()[1] == pytest.approx(LR)


def test_a_step_is_measured_once_and_steps_that_go_back_are_said(said: list[str]) -> None:
    monitor = watching(network())
    for _ in range(2):
        for step in range(1, 3):
            monitor.step(step, lr=LR)
            assert monitor.step(step, lr=LR) is None
    assert monitor.table()["step"].tolist() == [1, 2, 1, 2]
    assert said == list(monitor.notes)
    assert "The steps went back, from 2 to 1" in said[0]


def test_a_network_that_is_lost_on_the_way_is_told_as_such_and_measured_again_when_it_is_back(tmp_path: Path) -> None:
    net = network()
    monitor = watching(net, batch_size=8, num_examples=64)
    first = monitor.measure(1, lr=LR)
    with torch.no_grad():
        net[0].weight.fill_(float("nan"))  # pyright: ignore[reportCallIssue]
    row = monitor.measure(2, lr=LR)
    for column in ("loss", "gradient_norm", "lambda_max", "k_lambda_max", "noise_scale", "fisher_trace"):
        assert row[column] != row[column], column
    assert monitor.warnings == ()
    monitor.report(tmp_path / "page.html")
    other = watching(net)
    other.load_state_dict(monitor.state_dict())
    net.load_state_dict(network().state_dict())
    back = other.measure(3, lr=LR)
    assert back["lambda_max"] == pytest.approx(first["lambda_max"], rel=0.01)
    assert back["gradient_norm"] == pytest.approx(first["gradient_norm"])


def test_every_gradient_is_in_the_cost_of_some_row() -> None:
    calls = 0

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal calls
        calls += len(batch[1]) * torch.is_grad_enabled()
        return cross_entropy(model, batch)

    monitor = watching(network(), loss=loss, batch_size=8, num_examples=64, likelihood=None)
    costs = [monitor.measure(step, lr=LR)["cost"] for step in range(1, 4)]
    ways = calls / len(X)
    assert sum(costs) >= ways
    assert costs[0] > costs[1] + 2
