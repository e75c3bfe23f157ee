"""The recorder against a dictionary of lists, and against what the measures say of a kept trace."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from torch import Tensor

from byrote import Recorder
from byrote.measures import aum, csl, data_map, el2n, forgetting_events
from byrote.scoring import Table, waiting

EARLY = 2


def reference(visits: list[tuple[int, np.ndarray, int]], *, num_examples: int) -> list[dict[str, Any] | None]:
    """Every visit kept, one example at a time, by the measures themselves."""
    rows: list[dict[str, Any] | None] = []
    for example in range(num_examples):
        own = [(logits.astype(np.float64), target) for which, logits, target in visits if which == example]
        if not own:
            rows.append(None)
            continue
        logits, target = np.stack([z for z, _ in own]), np.array([own[-1][1]])
        margins = logits[:, target[0]] - np.delete(logits, target[0], axis=1).max(1)
        losses = np.asarray(special.logsumexp(logits, axis=1)) - logits[:, target[0]]
        place = data_map(np.exp(-losses)[:, None], (margins > 0)[:, None])
        forgotten = forgetting_events((margins > 0)[:, None])
        early = [el2n(z[None, None], target).value.item() for z in logits[:EARLY]]
        rows.append(
            {
                "csl": csl(losses[:, None]).item(),
                "aum": aum(margins[:, None]).item(),
                "el2n": float(np.mean(early)),
                "confidence": place.confidence.item(),
                "variability": place.variability.item(),
                "correctness": place.correctness.item(),
                "forgetting_events": forgotten.events.item(),
                "never_learnt": float(forgotten.never_learnt.item()),
                "num_updates": len(own),
                "target": target.item(),
            }
        )
    return rows


def agree(table: Table, expected: list[dict[str, Any] | None], *, tolerance: float = 2e-5) -> None:
    """All columns, to single precision's rounding; variability's is that of a difference of squares."""
    for found, wanted in zip(table.to_pylist(), expected, strict=True):
        if wanted is None:
            assert found["status"] == "never seen"
            assert found["num_updates"] == 0
            continue
        for name, value in wanted.items():
            assert found[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def loop(seed: int, *, num_examples: int = 23, num_classes: int = 4, epochs: int = 5) -> list[tuple[Tensor, ...]]:
    """Batches of a made-up training: ids, logits, targets."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(num_classes, (num_examples,), generator=generator)
    batches: list[tuple[Tensor, ...]] = []
    for _ in range(epochs):
        order = torch.randperm(num_examples, generator=generator)
        logits = 2 * torch.randn(num_examples, num_classes, generator=generator)
        batches += [(ids, logits[ids], targets[ids]) for ids in order.split(6)]
    return batches


def visits_of(batches: list[tuple[Tensor, ...]]) -> list[tuple[int, np.ndarray, int]]:
    return [(int(i), z.float().numpy(), int(y)) for batch in batches for i, z, y in zip(*batch, strict=True)]


def recorded(batches: Sequence[tuple[Any, ...]], recorder: Recorder, *, per_epoch: int = 4) -> Recorder:
    """Epochs are ended, too, where they are told."""
    for number, batch in enumerate(batches, start=1):
        recorder.update(*batch)
        if number % per_epoch == 0:
            recorder.end_epoch()
    return recorder


def same(one: Table, two: Table) -> None:
    assert one.arrow.equals(two.arrow), (one, two)


@pytest.mark.parametrize("epochs", ["found", "told"])
@pytest.mark.parametrize(("visits", "numbers"), [(1, 1), (7, 10**6), (50, 60), (8192, 1), (8192, 10**6)])
@pytest.mark.parametrize("few", [0, 64])
def test_it_is_what_the_measures_say_of_a_kept_trace(epochs, visits, numbers, few, monkeypatch):
    """However many batches are looked at together, also those of several epochs, and whichever axis comes first."""
    for name, value in (("MOST_VISITS", visits), ("MOST_NUMBERS", numbers), ("FEW_OUTPUTS", few)):
        monkeypatch.setattr(waiting, name, value)
    batches = loop(0)
    recorder = recorded(batches, Recorder(25, epochs=epochs, early_epochs=EARLY))
    agree(recorder.scores(), reference(visits_of(batches), num_examples=25))


def test_scores_in_the_middle_of_an_epoch_count_what_was_seen():
    batches = loop(1)[:-2]
    expected = reference(visits_of(batches), num_examples=23)
    for epochs in ("found", "told"):
        recorder = recorded(batches, Recorder(23, epochs=epochs, early_epochs=EARLY))
        for _ in range(2):
            agree(recorder.scores(), expected)
    assert {"recorded", "seen less often"} == set(recorder.scores()["status"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_any_precision_is_taken_in_and_computed_in_at_least_single(dtype):
    batches = [(ids, z.to(dtype), y) for ids, z, y in loop(2)]
    recorder = recorded(batches, Recorder(23, early_epochs=EARLY))
    agree(recorder.scores(), reference(visits_of(batches), num_examples=23))


def test_arrays_lists_and_tensors_are_one_and_gradients_are_let_go():
    batches = loop(3)
    plain = recorded(batches, Recorder(23)).scores()
    arrays = Recorder(23)
    for number, (ids, z, y) in enumerate(batches):
        reversed_twice = z.flip(0).numpy()[::-1]
        reversed_twice.flags.writeable = False
        given: Any = (ids.tolist(), reversed_twice, y.numpy().astype(np.uint16))
        arrays.update(*(given if number % 2 else (ids.int(), z.clone().requires_grad_(), y[:, None])))
    same(plain, arrays.scores())


def test_what_the_loop_does_to_its_tensors_afterwards_changes_nothing():
    batches = loop(4)
    plain = recorded(batches, Recorder(23)).scores()
    reused, recorder = [torch.empty_like(part) for part in batches[0]], Recorder(23)
    for batch in batches:
        views = [held[: len(part)].copy_(part) for held, part in zip(reused, batch, strict=True)]
        recorder.update(*views)
        for held in reused:
            held.zero_()
    same(plain, recorder.scores())


def test_ids_are_whatever_the_loader_hands_out():
    batches = loop(5)
    plain = recorded(batches, Recorder(23)).scores()
    names = [f"image-{number:03}.png" for number in range(23)]
    texts, numbers = Recorder(ids=names), Recorder(ids=range(1000, 1230, 10))
    for ids, z, y in batches:
        texts.update([names[i] for i in ids], z, y)
        numbers.update(1000 + 10 * ids, z, y)
    assert texts.scores()["id"].tolist() == names
    assert numbers.scores()["id"].tolist() == list(range(1000, 1230, 10))
    for other in (texts, numbers):
        assert other.scores().arrow.drop(["id"]).equals(plain.arrow.drop(["id"]))


def test_one_logit_is_that_of_the_second_of_two_classes():
    generator = torch.Generator().manual_seed(6)
    logit, targets = torch.randn(9, generator=generator), torch.randint(2, (9,), generator=generator)
    one, column, two = Recorder(9), Recorder(9), Recorder(9)
    for _ in range(3):
        one.update(range(9), logit, targets.float())
        column.update(range(9), logit[:, None], targets.bool())
        two.update(range(9), torch.stack([torch.zeros(9), logit], 1), targets)
        logit = -logit
    same(one.scores(), two.scores())
    same(column.scores(), two.scores())


def test_inference_mode_and_a_default_device_do_not_spoil_the_sums():
    batches = loop(7)
    plain = recorded(batches, Recorder(23, epochs="told")).scores()
    recorder = Recorder(23, epochs="told")
    for number, (ids, z, y) in enumerate(batches, start=1):
        with torch.inference_mode(number % 3 == 0):
            recorder.update(ids.clone(), z.clone(), y.clone())
            if number % 4 == 0:
                recorder.end_epoch()
    same(plain, recorder.scores())


def test_numbers_have_sums_of_squares_and_what_needs_a_right_answer_needs_a_bound():
    generator = torch.Generator().manual_seed(8)
    targets = 1e6 + torch.arange(5.0, dtype=torch.float64)
    residuals = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    recorder, bounded = (Recorder(5, regression=True, early_epochs=2, fitted_below=b) for b in (None, 0.5))
    for residual in residuals:
        for each in (recorder, bounded):
            each.update(range(5), (targets + residual)[:, None], targets)
    table, r, one = recorder.scores(), residuals.numpy(), targets.numpy().std()
    assert table["csl"] == pytest.approx((r**2).sum(0) / one**2)
    assert table["mean_residual"] == pytest.approx(np.abs(r).mean(0) / one)
    assert table["variability"] == pytest.approx(np.abs(r).std(0) / one)
    assert table["el2n"] == pytest.approx(np.abs(r[:2]).mean(0) / one)
    assert table["target"] == pytest.approx(targets.numpy())
    for name in ("aum", "correctness", "forgetting_events", "never_learnt"):
        assert table.arrow[name].null_count == 5
    assert "confidence" not in table.columns
    assert [note.split(":")[0] for note in table.notes] == [
        "aum is null",
        "forgetting_events, never_learnt and correctness are null",
    ]
    assert [note.split(":")[0] for note in bounded.scores().notes] == ["aum is null"]
    events = forgetting_events(r**2 < 0.5)
    assert bounded.scores()["forgetting_events"].tolist() == events.events.tolist()
    assert bounded.scores()["never_learnt"].tolist() == events.never_learnt.tolist()
    assert bounded.scores()["correctness"] == pytest.approx((r**2 < 0.5).mean(0))


def processes(
    num_processes: int, *, seed: int, num_examples: int = 23, epochs: int = 4
) -> tuple[list[list[list[tuple[Tensor, ...]]]], list[list[tuple[Tensor, ...]]]]:
    """What each process sees in each epoch under PyTorch's own DistributedSampler, padded, and what there is to see.

    An example that comes twice in an epoch has the logits of whoever sees it, the first process' being counted.
    """
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (num_examples,), generator=generator)
    samplers = [
        torch.utils.data.DistributedSampler(torch.utils.data.TensorDataset(targets), num_processes, rank, seed=seed)
        for rank in range(num_processes)
    ]
    seen, whole = [], []
    for epoch in range(epochs):
        parts, first = [], dict[int, Tensor]()
        for sampler in samplers:
            sampler.set_epoch(epoch)
            ids = torch.tensor(list(sampler))
            logits = torch.randn(len(ids), 3, generator=generator)
            for which, row in zip(ids.tolist(), logits, strict=True):
                first.setdefault(which, row)
            parts.append([(ids[at], logits[at], targets[ids[at]]) for at in torch.arange(len(ids)).split(4)])
        seen.append(parts)
        whole.append([(torch.arange(num_examples), torch.stack([first[i] for i in range(num_examples)]), targets)])
    return seen, whole


@pytest.mark.parametrize("num_processes", [2, 5])
def test_recorders_of_processes_merged_after_every_epoch_are_one_recorder(num_processes):
    """23 examples do not divide: the sampler fills up with examples that another process has, too."""
    seen, whole = processes(num_processes, seed=num_processes)
    alone, merged = Recorder(23, epochs="told"), Recorder(23, epochs="told")
    for number, (parts, all_of_it) in enumerate(zip(seen, whole, strict=True), start=1):
        assert sum(len(ids) for part in parts for ids, *_ in part) > 23
        recorders = [Recorder(23, epochs="told", ended_epochs=number - 1) for _ in parts]
        for recorder, part in zip(recorders, parts, strict=True):
            recorded(part, recorder, per_epoch=len(part))
        merged.merge(recorders)
        recorded(all_of_it, alone, per_epoch=1)
    same(merged.scores(), alone.scores())
    assert merged.scores()["num_updates"].tolist() == [4] * 23


def test_recorders_of_every_process_and_epoch_are_merged_in_any_order():
    seen, whole = processes(3, seed=1)
    alone = Recorder(23, epochs="told")
    pieces: list[Recorder] = []
    for number, (parts, all_of_it) in enumerate(zip(seen, whole, strict=True)):
        recorded(all_of_it, alone, per_epoch=1)
        pieces += [
            recorded(part, Recorder(23, epochs="told", ended_epochs=number), per_epoch=len(part)) for part in parts
        ]
    merged = pieces[0]
    merged.merge([*pieces[1:3], *pieces[:2:-1]])
    found, wanted = merged.scores(), alone.scores()
    assert found["num_updates"].tolist() == wanted["num_updates"].tolist()
    unique = [name for name in wanted.columns if name in ("target", "num_updates", "status")]
    assert found.arrow.select(unique).equals(wanted.arrow.select(unique))


def test_examples_that_moved_between_recorders_within_their_epochs_are_refused():
    seen, _ = processes(2, seed=2)
    recorders = [Recorder(23, epochs="told") for _ in range(2)]
    for parts in seen:
        for recorder, part in zip(recorders, parts, strict=True):
            recorded(part, recorder, per_epoch=len(part))
    with pytest.raises(ValueError, match=r"of 23 \(for instance \d+\) were seen by several in turn.*end_epoch\(group"):
        recorders[0].merge(recorders[1])
    found = [recorded(loop(9), Recorder(23)) for _ in range(2)]
    with pytest.raises(ValueError, match=r"23 of 23.*epochs='told'"):
        found[0].merge(found[1])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), num_parts=st.integers(1, 4), cut=st.integers(0, 20))
def test_any_sharing_out_of_examples_and_any_interruption_gives_the_same(seed, num_parts, cut):
    """Each example stays with one recorder; one of them is stored, forgotten and goes on."""
    batches = loop(seed)
    owner = torch.randint(num_parts, (23,), generator=torch.Generator().manual_seed(seed))
    parts = [Recorder(23, epochs="told", early_epochs=EARLY) for _ in range(num_parts)]
    for number, (ids, z, y) in enumerate(batches, start=1):
        for which, recorder in enumerate(parts):
            own = owner[ids] == which
            recorder.update(ids[own], z[own], y[own])
            if number % 4 == 0:
                recorder.end_epoch()
        if number == cut:
            resumed = Recorder(23, epochs="told", early_epochs=EARLY)
            resumed.load_state_dict(parts[0].state_dict())
            parts[0] = resumed
    parts[0].merge(parts[1:])
    same(parts[0].scores(), recorded(batches, Recorder(23, epochs="told", early_epochs=EARLY)).scores())


@pytest.mark.parametrize("epochs", ["found", "told"])
def test_a_saved_recorder_goes_on_as_if_nothing_had_happened(epochs, tmp_path: Path):
    batches, names = loop(10), [f"x{number}" for number in range(23)]
    whole, first = (Recorder(ids=names, epochs=epochs, early_epochs=EARLY) for _ in range(2))
    named = [([names[i] for i in ids], z, y) for ids, z, y in batches]
    recorded(named, whole)
    for number, batch in enumerate(named, start=1):
        first.update(*batch)
        if number % 4 == 0:
            first.end_epoch()
        if number == 9:
            first.save(tmp_path / "recorder.safetensors")
            first = Recorder.load(tmp_path / "recorder.safetensors")
    same(first.scores(), whole.scores())
    assert [path.name for path in tmp_path.iterdir()] == ["recorder.safetensors"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none")
@pytest.mark.parametrize("epochs", ["found", "told"])
def test_a_gpu_is_never_waited_for_and_its_faults_are_told_in_the_end(epochs):
    batches = [tuple(part.to("cuda") for part in batch) for batch in loop(11)]
    recorder = Recorder(23, epochs=epochs, early_epochs=EARLY)
    recorder.update(*batches[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:4]:
            recorder.update(*batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    recorder.end_epoch()
    recorded(batches[4:], recorder)
    agree(recorder.scores(), reference(visits_of([tuple(p.cpu() for p in b) for b in batches]), num_examples=23))
    recorder.update(torch.tensor([99], device="cuda"), batches[0][1][:1], batches[0][2][:1])
    with pytest.raises(ValueError, match="got 1 unknown ids and 0 targets that are no class"):
        recorder.scores()
    assert recorder.scores()["num_updates"].tolist() == [5] * 23
