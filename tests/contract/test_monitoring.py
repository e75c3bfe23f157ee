"""What a monitor does inside a training that is not its own."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, distributed, nn
from torch.func import functional_call, jacrev
from torch.nn.parallel import DistributedDataParallel

from byrote.core import ModelError, SpecError, StoreError, UnknownNameError
from byrote.integrations import tensorboard_sink
from byrote.measures.cka import linear_cka
from byrote.monitoring import COLUMNS, Governor, TrajectoryWarning
from byrote.monitoring.warned import new_warnings
from monitored import X, Y, cross_entropy, known, network, train, watching


def _dense(net: nn.Module) -> Tensor:
    named = {name: part.detach() for name, part in net.named_parameters()}
    sizes = [part.numel() for part in named.values()]

    def mean(flat: Tensor) -> Tensor:
        parts = {n: c.reshape(p.shape) for (n, p), c in zip(named.items(), flat.split(sizes), strict=True)}
        return nn.functional.cross_entropy(functional_call(net, parts, (X,)), Y)

    return jacrev(jacrev(mean))(torch.cat([part.reshape(-1) for part in named.values()]))


def test_every_number_is_what_it_is_by_hand() -> None:
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    start = torch.cat([part.detach().reshape(-1) for part in net.parameters()])
    monitor = watching(net, optimiser=optimiser, num_batches=8)
    rows = []
    first = net[1](net[0](X)).detach()
    train(net, optimiser, steps=3, after=lambda step: rows.append(known(monitor.step(step))))
    row = rows[-1]
    means = [cross_entropy(net, (x, y)).mean() for x, y in zip(X.split(8), Y.split(8), strict=True)]
    each = [torch.autograd.grad(mean, list(net.parameters())) for mean in means]
    gradients = torch.stack([torch.cat([part.reshape(-1) for part in parts]) for parts in each])
    spectrum = torch.linalg.eigvalsh(torch.cov(gradients.T))
    mean, trace = gradients.mean(0), float(gradients.var(0).sum())
    now = torch.cat([part.detach().reshape(-1) for part in net.parameters()])
    top = float(torch.linalg.eigvalsh(_dense(net))[-1])
    assert row["step"] == 3
    assert row["lr"] == 0.5
    assert row["loss"] == pytest.approx(cross_entropy(net, (X, Y)).mean().item())
    assert row["gradient_norm"] == pytest.approx(float(mean.norm()))
    assert row["distance_from_start"] == pytest.approx(float((now - start).norm()))
    assert row["lambda_max"] == pytest.approx(top, rel=1e-3)
    assert abs(row["lambda_max"] - top) <= row["lambda_max_residual"] + 1e-9
    assert row["stability"] == pytest.approx(row["lambda_max"] * 0.5 / (2 * 1.9))
    assert row["k_lambda_max"] == pytest.approx(float(spectrum[-1]))
    assert row["k_trace"] == pytest.approx(trace)
    assert row["k_conditioning"] == pytest.approx(float(spectrum[-7] / spectrum[-1]))
    assert row["noise_scale"] == pytest.approx(8 * trace / (float(mean.square().sum()) - trace / 8))
    after = linear_cka(net[1](net[0](X)).detach(), first).value
    assert after is not None
    assert rows[0]["feature_movement"] == 0
    assert 0 < row["feature_movement"] < 2 * (1 - after) + 1e-6
    assert row["fisher_trace"] > 0
    assert set(row) <= set(COLUMNS)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_is_felt_through_its_second_moments(kind: Any) -> None:
    net = network()
    optimiser = kind(net.parameters(), lr=1e-2, betas=(0.8, 0.99), weight_decay=0.0)
    monitor, rows = watching(net, optimiser=optimiser), []
    train(net, optimiser, steps=4, after=lambda step: rows.append(known(monitor.step(step))))
    states = [optimiser.state[part] for part in net.parameters()]
    scale = torch.cat([(s["exp_avg_sq"] / (1 - 0.99**4)).sqrt().reshape(-1) + 1e-8 for s in states])
    top = float(torch.linalg.eigvals(_dense(net) / scale[:, None]).real.max())
    assert rows[-1]["preconditioned_lambda_max"] == pytest.approx(top, rel=1e-3)
    limit = 2 * 1.8 / (0.2 * 1e-2)
    assert rows[-1]["stability"] == pytest.approx(rows[-1]["preconditioned_lambda_max"] / limit)


def test_break_even_counts_the_noise_of_batches() -> None:
    net = network()
    row = watching(net, batch_size=4, num_examples=64).measure(1, lr=0.5)
    value, spread = row["lambda_max"], row["curvature_variance"]
    assert row["growth"] == pytest.approx((1 - 0.5 * value) ** 2 + 0.25 * spread * 60 / (4 * 63))


class Touchy(nn.Module):
    """Batch statistics, dropout, a frozen layer, and a weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 6)
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.again, self.last = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.again.weight
        self.head = nn.Linear(6, 10)
        self.head.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.again(self.drop(self.norm(self.first(x))).tanh()).tanh()))


def test_the_model_is_left_as_it_was_found() -> None:
    net = Touchy().double()
    optimiser = torch.optim.SGD([part for part in net.parameters() if part.requires_grad], lr=0.1)
    cross_entropy(net, (X, Y)).mean().backward()
    net.first.eval()
    before = {name: part.clone() for name, part in net.state_dict().items()}
    gradients = [None if part.grad is None else part.grad.clone() for part in net.parameters()]
    modes = [layer.training for layer in net.modules()]
    states = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    monitor = watching(net, optimiser=optimiser, batch_size=8, num_examples=64)
    row = monitor.measure(1)
    assert row["lambda_max"] > 0
    assert all(torch.equal(part, before[name]) for name, part in net.state_dict().items())
    for part, gradient in zip(net.parameters(), gradients, strict=True):
        assert (part.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(gradient, part.grad)  # pyright: ignore[reportArgumentType]
    assert [layer.training for layer in net.modules()] == modes
    assert [part.requires_grad for part in net.head.parameters()] == [False, False]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert repr(np.random.get_state()) == states[1]  # noqa: NPY002
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())


def test_some_of_the_parameters_are_measured_alone() -> None:
    net = network()
    row = watching(net, parameters=["2.weight", "2.bias"]).measure(1)
    block = _dense(net)[-70:, -70:]
    assert row["lambda_max"] == pytest.approx(float(torch.linalg.eigvalsh(block)[-1]), rel=1e-3)


def test_compiled_and_autocast_losses_are_measured() -> None:
    net = network().float()
    compiled: Any = torch.compile(net, backend="eager")
    inputs = X.float()
    compiled(inputs)

    def half(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return nn.functional.cross_entropy(model(batch[0]).float(), batch[1], reduction="none")

    exact = watching(net, probe=(inputs, Y)).measure(1)["lambda_max"]
    assert watching(compiled, probe=(inputs, Y)).measure(1)["lambda_max"] == pytest.approx(exact, rel=1e-5)
    assert watching(net, probe=(inputs, Y), loss=half).measure(1)["lambda_max"] == pytest.approx(exact, rel=0.02)


class _Clock:
    """Passes by itself only as it is told to; a loss moves it on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("overhead", "step_seconds"), [(0.05, 0.05), (0.2, 0.02)])
def test_measuring_takes_its_share_and_no_more(overhead: float, step_seconds: float) -> None:
    clock, net = _Clock(), network()

    def slow(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        clock.now += 0.01 * len(batch[1]) / 64
        return cross_entropy(model, batch)

    monitor = watching(net, loss=slow, overhead=overhead, clock=clock, num_batches=4)
    kinds, shares = [], []
    for step in range(1, 400):
        clock.now += step_seconds
        row = monitor.step(step)
        if row is not None:
            kinds.append("lambda_max" in row)
            shares.append(row["share"])
    assert kinds.count(True) >= 2
    assert kinds.count(True) < kinds.count(False)
    assert max(shares[5:]) <= 1.2 * overhead
    assert shares[-1] >= 0.6 * overhead


@pytest.mark.parametrize("seed", range(12))
def test_a_governor_keeps_within_what_it_was_given_whatever_things_take(seed: int) -> None:
    generator = np.random.default_rng(seed)
    overhead = 10 ** generator.uniform(-2, 0)
    scale = 10 ** generator.uniform(-1, 1) / overhead
    governor, num = Governor(overhead), 0
    for _ in range(3_000):
        governor.earn(generator.exponential(scale))
        kind = governor.due()
        if kind is None:
            continue
        if not num:
            governor.expect(1.0, quick=1.3, full=10.0)
        governor.charge(kind, seconds=generator.uniform(0.8, 1.2) * (10.0 if kind == "full" else 1.3))
        num += 1
        assert num < 30 or governor.share <= 1.2 * overhead
    assert num > 60


def test_a_pause_makes_no_burst_of_measurements() -> None:
    governor = Governor(0.1)
    governor.expect(1.0, quick=1.0, full=5.0)
    governor.charge("quick", seconds=1.0)
    governor.earn(1e6)
    made = []
    while (kind := governor.due()) is not None:
        governor.charge(kind, seconds=5.0 if kind == "full" else 1.0)
        made.append(kind)
    assert len(made) <= 4


def test_a_checkpoint_carries_everything_and_any_safe_reader_reads_it(tmp_path: Path) -> None:
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    monitor = watching(net, optimiser=optimiser)
    train(net, optimiser, steps=3, after=monitor.step)
    stored = io.BytesIO()
    torch.save(monitor.state_dict(), stored)  # noqa: TID251
    stored.seek(0)
    other = watching(network(seed=1), optimiser=optimiser)
    other.load_state_dict(torch.load(stored, weights_only=True))  # noqa: TID251
    assert other.table().arrow.equals(monitor.table().arrow)
    again = watching(net, optimiser=optimiser)
    monitor.save(tmp_path / "monitor.safetensors")
    again.load(tmp_path / "monitor.safetensors")
    here, there = monitor.measure(4), again.measure(4)
    assert there["cost"] == pytest.approx(here["cost"] + 2 / 3)  # that the probe may be cut is seen to once more
    clocks = {"seconds", "share", "cost"}
    assert {name: here[name] for name in here if name not in clocks} == {n: there[n] for n in there if n not in clocks}
    with pytest.raises(SpecError, match="of another model, or of other parameters"):
        watching(nn.Sequential(nn.Linear(64, 10)).double()).load_state_dict(monitor.state_dict())
    with pytest.raises(SpecError, match="a monitor's state_dict, got weight"):
        again.load_state_dict({"weight": torch.zeros(1)})
    with pytest.raises(StoreError):
        again.load(tmp_path / "nothing")


@pytest.mark.filterwarnings("error")
def test_the_edge_of_stability_is_warned_of_once() -> None:
    net = network()
    monitor = watching(net)
    top = monitor.measure(1, lr=0.0)["lambda_max"]
    edge = 2.2 / top
    with pytest.warns(TrajectoryWarning, match="Break-even passed: at step 2") as passed:
        monitor.measure(2, lr=edge)
    assert len(passed) == 1
    monitor.measure(3, lr=edge)
    with pytest.warns(TrajectoryWarning, match="Edge of stability: in 3 measurements in a row, since step 2"):
        monitor.measure(4, lr=edge)
    monitor.measure(5, lr=edge)
    assert [(warned.what, warned.step) for warned in monitor.warnings] == [
        ("break-even passed", 2),
        ("edge of stability", 4),
    ]


def test_a_fisher_explosion_is_one_that_its_error_does_not_explain() -> None:
    def rows(last: float, se: float) -> list[dict[str, float]]:
        return [
            {"step": 0.0, "fisher_trace": 1.0, "fisher_trace_se": 0.1},
            {"step": 9.0, "fisher_trace": last, "fisher_trace_se": se},
        ]

    assert [warned.what for warned in new_warnings(rows(7.0, 0.5), given=[])] == ["Fisher explosion"]
    assert new_warnings(rows(7.0, 1.5), given=[]) == []
    assert new_warnings(rows(4.9, 0.0), given=[]) == []


def test_sinks_get_what_was_measured() -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def add_scalar(self, tag: str, value: float, global_step: int) -> None:
            written.append((tag, value, global_step))

    rows: list[Any] = []
    monitor = watching(network(), sinks=[rows.append, tensorboard_sink(Writer())])
    row = monitor.measure(7, lr=0.1)
    assert rows[0] == row
    assert {(tag.removeprefix("byrote/"), value) for tag, value, _ in written} == {
        (name, value) for name, value in row.items() if name != "step"
    }
    assert {step for *_, step in written} == {7}


def test_the_table_and_the_page_hold_all_of_it(tmp_path: Path) -> None:
    class Odd(nn.Sequential):
        pass

    Odd.__name__ = "<script>alert(1)</script>"
    net = Odd(*network())
    monitor = watching(net, likelihood=None)
    monitor.measure(1, lr=0.1)
    monitor.measure(2)
    frame = monitor.table().to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert frame["step"].tolist() == [1, 2]
    assert frame["lr"].isna().tolist() == [False, True]
    assert frame["fisher_trace"].isna().all()
    page = monitor.report(tmp_path / "trajectory.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "How sharp is the loss" in page
    assert not re.search(r"<(script|img|link)[^>]*(src|href)=.https?:", page)
    watching(network()).report(tmp_path / "nothing.html")


def test_what_there_was_no_time_for_is_said_in_place_of_an_empty_figure(tmp_path: Path) -> None:
    monitor = watching(network(), overhead=1e-9)
    monitor.step(1, lr=0.1)
    page = monitor.report(tmp_path / "trajectory.html").read_text(encoding="utf-8")
    assert "There is nothing to draw here." not in page
    assert "Not measured: sharpness, stability, trace of the Fisher." in page
    assert "So far 1e-07\N{NO-BREAK SPACE}% of the training" in page
    assert "overhead=4e-09" in page


def test_what_cannot_be_measured_is_said_and_the_rest_goes_on() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.net(x), x.sum()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0])[0], batch[1], reduction="none")

    monitor = watching(Two(), loss=loss)
    row = monitor.measure(1)
    assert "fisher_trace" not in row
    assert row["lambda_max"] > 0
    (note,) = [note for note in monitor.notes if note.startswith("fisher_trace is not measured. To draw answers")]
    assert note in repr(monitor.table())


def test_a_list_of_uneven_batches_is_weighted_by_their_sizes() -> None:
    net = network()
    batches = [(X[:20], Y[:20]), (X[20:40], Y[20:40]), (X[40:45], Y[40:45])]
    row = watching(net, probe=batches).measure(1)
    whole = watching(net, probe=(X[:45], Y[:45]), num_batches=1).measure(1)
    for name in ("loss", "gradient_norm", "lambda_max"):
        assert row[name] == pytest.approx(whole[name], rel=1e-4)
    assert row["k_trace"] > 0
    assert "k_trace" not in whole


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"overhead": 0.0}, ValueError, "an overhead above 0"),
        ({"probe": []}, ValueError, "at least one batch as the probe"),
        ({"probe": iter([(X, Y)])}, TypeError, "Take as many as you mean"),
        ({"features": "3"}, UnknownNameError, "No layer '3'"),
        ({"parameters": ["weight"]}, UnknownNameError, "No parameter 'weight'"),
        ({"batch_size": 8}, ValueError, "both batch_size and num_examples"),
        ({"num_batches": 0}, ValueError, "at least one mini-batch"),
    ],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        watching(network(), **options)


def test_a_loss_that_cannot_be_cut_is_refused() -> None:
    def contrastive(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        outputs = model(batch[0])
        return (outputs @ outputs.T).logsumexp(1) - outputs.square().sum(1)

    with pytest.raises(ModelError, match="depends on what else is in its batch"):
        watching(network(), loss=contrastive).measure(1)
    assert watching(network(), loss=contrastive, probe=[(X, Y)], likelihood=None).measure(1)["lambda_max"] != 0


CLOCKS = {"step", "seconds", "share"}
DRAWN = {"fisher_trace", "fisher_trace_se"}


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    net = network()
    wrapped = DistributedDataParallel(net)
    optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.5)
    own = slice(0, 48) if rank == 0 else slice(48, 64)
    options: dict[str, Any] = {"optimiser": optimiser, "batch_size": 8, "num_examples": 64}
    governed = watching(wrapped, probe=(X[own], Y[own]), overhead=0.3, **options)
    for step in range(1, 30 + 1):
        optimiser.zero_grad()
        part = cross_entropy(wrapped, (X[own], Y[own])).sum() * 2 / 64
        part.backward()
        optimiser.step()
        governed.step(step)
    governed.measure(31)
    fresh = watching(wrapped, probe=(X[own], Y[own]), **options)
    fresh.measure(31)
    unlike = watching(wrapped, probe=[(X[part], Y[part]) for part in torch.arange(64)[own].split(24)], **options)
    unlike.measure(31)
    for name, monitor in {"governed": governed, "fresh": fresh, "unlike": unlike}.items():
        monitor.table().to_pandas().to_parquet(f"{folder}/{name}{rank}.parquet")
    Path(f"{folder}/notes{rank}").write_text("\n".join(unlike.notes), encoding="utf-8")
    distributed.destroy_process_group()


def test_two_processes_with_uneven_parts_of_the_probe_measure_what_one_does(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_process, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=100)
        process.kill()
    assert [process.exitcode for process in running] == [0, 0]

    def last(name: str) -> Any:
        ours, theirs = (pd.read_parquet(tmp_path / f"{name}{rank}.parquet") for rank in range(2))
        assert ours.equals(theirs)
        return ours.iloc[-1]

    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    together = [torch.cat([torch.arange(3 * place, 3 * place + 3), torch.tensor([48 + place])]) for place in range(16)]
    options: dict[str, Any] = {"optimiser": optimiser, "batch_size": 8, "num_examples": 64}
    monitor = watching(net, probe=[(X[rows], Y[rows]) for rows in together], **options)
    train(net, optimiser, steps=30, after=lambda step: None)
    monitor.measure(31)
    alone: Any = monitor.table().to_pandas().iloc[0]
    fresh = last("fresh")
    for name in set(COLUMNS) - CLOCKS - DRAWN - {"cost", "feature_movement", "distance_from_start"}:
        assert fresh[name] == pytest.approx(alone[name], rel=1e-6, nan_ok=True), name
    error = np.hypot(fresh["fisher_trace_se"], alone["fisher_trace_se"])
    assert abs(fresh["fisher_trace"] - alone["fisher_trace"]) <= 5 * error
    warm = last("governed")
    assert warm["distance_from_start"] == pytest.approx(alone["distance_from_start"], rel=1e-9)
    both = warm["lambda_max_residual"] + alone["lambda_max_residual"]
    assert abs(warm["lambda_max"] - alone["lambda_max"]) <= min(both, 1e-3 * alone["lambda_max"])
    unlike = last("unlike")
    assert unlike["lambda_max"] == pytest.approx(alone["lambda_max"], rel=1e-6)
    assert np.isnan(unlike["k_trace"])
    notes = [(tmp_path / f"notes{rank}").read_text(encoding="utf-8") for rank in range(2)]
    assert notes[0] == notes[1]
    assert "all need as many of them. Give every process a probe of as many examples" in notes[0]
