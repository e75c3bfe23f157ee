"""A recorder's answers that are known on paper, and what it refuses."""

import inspect
import math
import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed

from byrote import Recorder
from byrote.core import SpecError, StoreError


def test_margins_are_of_logits_not_of_probabilities():
    """Two confident answers have nearly the same probabilities, and logits a factor of three apart."""
    recorder = Recorder(2)
    recorder.update([0, 1], torch.tensor([[20.0, 0.0], [60.0, 0.0]]), [0, 0])
    assert recorder.scores()["aum"].tolist() == [20.0, 60.0]


def test_tiny_losses_and_errors_are_not_lost_to_rounding():
    """1 − p of a logit ahead by 30 is e^−30, far below single precision's step at 1."""
    recorder = Recorder(1)
    recorder.update([0], torch.tensor([[30.0, 0.0]]), [0])
    row = recorder.scores().to_pylist()[0]
    assert row["csl"] == pytest.approx(math.log1p(math.exp(-30)), rel=1e-5)
    assert row["el2n"] == pytest.approx(math.sqrt(2) * math.exp(-30), rel=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 1000])
def test_uniform_predictions(num_classes):
    recorder = Recorder(1)
    for _ in range(4):
        recorder.update([0], torch.zeros(1, num_classes), [num_classes - 1])
    row = recorder.scores().to_pylist()[0]
    assert row["csl"] == pytest.approx(4 * math.log(num_classes), rel=1e-6)
    assert row["el2n"] == pytest.approx(math.sqrt((num_classes - 1) / num_classes), rel=1e-6)
    assert row["confidence"] == pytest.approx(1 / num_classes, rel=1e-6)
    assert (row["variability"], row["correctness"], row["never_learnt"]) == (pytest.approx(0, abs=1e-6), 0, True)


def test_forgetting_counts_right_answers_that_turn_wrong():
    recorder = Recorder(3)
    for right in ([1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]):
        recorder.update(range(3), torch.tensor([[0.0, 1.0 if one else -1.0] for one in right]), [1, 1, 1])
    table = recorder.scores()
    assert table["forgetting_events"].tolist() == [2, 0, 0]
    assert table["never_learnt"].tolist() == [False, False, True]
    assert table["correctness"].tolist() == [0.5, 0.75, 0.0]


def test_early_error_is_of_the_first_epochs_only():
    recorder = Recorder(1, early_epochs=2)
    for ahead in (0.0, 800.0, -800.0):
        recorder.update([0], torch.tensor([[ahead, 0.0]]), [0])
    assert recorder.scores()["el2n"].tolist() == pytest.approx([math.sqrt(0.5) / 2])


def test_an_id_that_comes_twice_in_a_told_epoch_counts_once_the_first_time():
    told, found = Recorder(2, epochs="told"), Recorder(2)
    logits = torch.tensor([[1.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    for recorder in (told, found):
        recorder.update([0, 1, 0], logits, [0, 0, 0])
        recorder.update([1], logits[2:], [0])
        recorder.end_epoch()
    assert told.scores()["aum"].tolist() == [1.0, 2.0]
    assert told.scores()["num_updates"].tolist() == [1, 1]
    assert found.scores()["aum"].tolist() == [5.0, 5.5]
    assert (told.num_epochs, found.num_epochs) == (1, 0)


def test_each_status():
    recorder = Recorder(5)
    logits = torch.tensor([[1.0, 0.0]] * 4)
    recorder.update(range(4), logits, [0, 0, 0, 0])
    logits[1] = torch.nan
    recorder.update([0, 1, 2], logits[:3], [0, 0, 1])
    table = recorder.scores()
    assert table["status"].tolist() == ["recorded", "not finite", "target changed", "seen less often", "never seen"]
    assert table.arrow["csl"].is_null().to_pylist() == [False, True, False, False, True]
    assert table.arrow["never_learnt"].is_null().to_pylist() == [False, True, False, False, True]
    spoilt = table.to_pylist()[1]
    assert {name for name, value in spoilt.items() if value is not None} == {"id", "target", "num_updates", "status"}
    assert spoilt["num_updates"] == 2


def test_threshold_samples_flag_what_is_as_low_as_they_are():
    recorder = Recorder(ids=["a", "b", "c", "d"])
    recorder.update(["a", "b", "c", "d"], torch.tensor([[3.0, 0, 0], [0, 3, 0], [-3, 0, 0], [0, 1, 0]]), [0, 1, 0, 2])
    assert recorder.scores(threshold_ids=["d"])["aum_flagged"].tolist() == [False, False, True, None]
    with pytest.raises(ValueError, match="got 'z'"):
        recorder.scores(threshold_ids=["z"])


def test_few_threshold_samples_are_said_with_their_threshold():
    recorder = Recorder(120)
    recorder.update(range(120), torch.arange(120.0)[:, None] * torch.tensor([[1.0, 0.0]]), [0] * 120)
    (note,) = recorder.scores(threshold_ids=[0, 1]).notes
    assert note.startswith(
        "aum_flagged: with 2 threshold examples the threshold, an AUM of 0.99, is about their largest"
    )
    assert recorder.scores(threshold_ids=range(100)).notes == recorder.scores().notes == ()
    with pytest.raises(ValueError, match="at least one threshold sample"):
        recorder.scores(threshold_ids=[])


def test_infinite_logits_have_no_scores():
    recorder = Recorder(2)
    recorder.update([0, 1], [[math.inf, 0.0], [1.0, 0.0]], [0, 0])
    table = recorder.scores()
    assert table["status"].tolist() == ["not finite", "recorded"]
    assert [table.arrow[name].null_count for name in ("aum", "correctness", "csl", "el2n", "confidence")] == [1] * 5


def test_epochs_that_were_never_told_are_noted():
    recorder = Recorder(2, epochs="told")
    for _ in range(3):
        recorder.update([0, 1], [[1.0, 0.0], [2.0, 0.0]], [0, 0])
    (note,) = recorder.scores().notes
    assert note.startswith("4 visits are left out")
    assert "call end_epoch() after each" in note
    recorder.end_epoch()
    assert recorder.scores().notes == ()


def test_another_number_of_outputs_is_refused_after_loading_and_in_merging(tmp_path: Path):
    three, two, new = Recorder(2), Recorder(2), Recorder(2)
    three.update([0], [[1.0, 0.0, 0.0]], [0])
    two.update([1], [[1.0, 0.0]], [0])
    three.save(tmp_path / "state")
    loaded = Recorder.load(tmp_path / "state")
    with pytest.raises(ValueError, match="3 outputs, as before, got 2"):
        loaded.update([1], [[1.0, 0.0]], [0])
    with pytest.raises(SpecError, match="3 outputs, as this one has seen, got one with 2"):
        three.merge(two)
    with pytest.raises(SpecError, match="3 outputs"):
        new.merge([three, two])
    new.merge([three])
    with pytest.raises(ValueError, match="3 outputs, as before, got 2"):
        new.update([1], [[1.0, 0.0]], [0])


def test_a_batch_of_nothing_changes_nothing():
    recorder = Recorder(2)
    recorder.update([], torch.zeros(0, 3), [])
    recorder.update([], [], [])
    recorder.update([0], [[1.0, 0.0]], [0])
    assert recorder.scores()["num_updates"].tolist() == [1, 0]


@pytest.mark.parametrize("num", [20.0, "20"])
def test_a_number_of_examples_is_whole(num):
    with pytest.raises(TypeError, match="num_examples as a whole number, got"):
        inspect.unwrap(Recorder.__init__)(object.__new__(Recorder), num)


@pytest.mark.parametrize("others", [[1], None, 7])
def test_only_recorders_are_merged(others):
    with pytest.raises(TypeError, match=r"Expected recorders to merge, one or several, got (int|NoneType)"):
        inspect.unwrap(Recorder.merge)(Recorder(1), others)


def test_a_column_that_is_not_there_is_said_with_the_one_that_was_meant():
    with pytest.raises(KeyError, match=r"Unknown column 'forgetting_event'. Did you mean: forgetting_events"):
        Recorder(1).scores()["forgetting_event"]


def test_two_loaders_that_show_the_same_examples_in_every_epoch_count_once():
    one, two = Recorder(3, epochs="told"), Recorder(3, epochs="told")
    for epoch in range(3):
        one.update([0, 1], torch.tensor([[1.0, 0.0], [2.0, 0.0]]) + epoch, [0, 0])
        two.update([1, 2], torch.tensor([[2.0, 0.0], [4.0, 0.0]]) + epoch, [0, 0])
        one.end_epoch()
        two.end_epoch()
    one.merge(two)
    assert one.scores()["num_updates"].tolist() == [3, 3, 3]
    assert one.scores()["aum"].tolist() == [1.0, 2.0, 4.0]


def test_a_merged_recorder_goes_on_and_leaves_out_what_was_merged_in_this_epoch():
    one, two = Recorder(2, epochs="told"), Recorder(2, epochs="told")
    two.update([0], [[5.0, 0.0]], [0])
    one.merge(two)
    one.update([0, 1], [[7.0, 0.0], [7.0, 0.0]], [0, 0])
    one.end_epoch()
    one.update([0], [[7.0, 0.0]], [0])
    assert one.scores()["aum"].tolist() == [6.0, 7.0]
    assert one.scores()["num_updates"].tolist() == [2, 1]


def test_what_does_not_fit_is_refused_and_not_recorded():
    recorder = Recorder(3)
    row = [[0.0, 1.0]]
    for message, call in (
        (r"ids from 0 to 2, got 3 to 3\. Ids that do not count the examples .*Recorder\(ids=", ([3], row, [0])),
        (r"ids from 0 to 2, got -1 to -1", ([-1], row, [0])),
        (r"got -100 to -100\. Leave examples without a target, such as those of ignore_index", ([0], row, [-100])),
        (r"targets in \[0, 2\).*got 2 to 2\. Threshold examples.*one output more", ([0], row, [2])),
        (r"logits of shape \[batch, class\] for a batch of 2 ids, got \(1, 2\)", ([0, 1], row, [0, 0])),
        (r"got \(1, 1, 2\)\. Of several outputs an example", ([0], [row], [0])),
        (r"targets of shape \[1\].*argmax", ([0], row, [[0.3, 0.7]])),
        (r"targets 0 or 1 for a model with one logit", ([0], [1.5], [0.5])),
    ):
        with pytest.raises(ValueError, match=message):
            recorder.update(*call)
    for message, call in (
        (r"class codes as targets, got torch.float32.*regression=True", ([0], row, torch.tensor([0.0]))),
        (r"ids as whole numbers, got torch.float64", (np.array([0.0]), row, [0])),
        (r"logits as an array of numbers, got", ([0], [["x", "y"]], [0])),
    ):
        with pytest.raises(TypeError, match=message):
            recorder.update(*call)
    assert recorder.scores()["num_updates"].tolist() == [0, 0, 0]
    recorder.update([0], row, [0])
    with pytest.raises(ValueError, match="Expected 2 outputs, as before, got 3"):
        recorder.update([0], [[0.0, 1.0, 2.0]], [0])
    with pytest.raises(ValueError, match="one prediction an example, got 2"):
        Recorder(3, regression=True).update([0], row, [0.0])
    with pytest.raises(ValueError, match="that the recorder was told of, got 4"):
        Recorder(ids=[5, 6]).update([6, 4], row * 2, [0, 0])


def test_what_cannot_be_made_is_refused():
    with pytest.raises(TypeError, match="either num_examples or ids"):
        Recorder()
    with pytest.raises(TypeError, match="either num_examples or ids"):
        Recorder(2, ids=["a", "b"])
    with pytest.raises(ValueError, match="unique ids, got 1 repeated, for instance 'a'"):
        Recorder(ids=["b", "a", "a"])
    with pytest.raises(ValueError, match="at least one example"):
        Recorder(0)
    with pytest.raises(ValueError, match="fitted_below as a squared error"):
        Recorder(2, fitted_below=0.1)
    with pytest.raises(ValueError, match="early_epochs at least 1"):
        Recorder(2, early_epochs=0)
    with pytest.raises(ValueError, match=r"Expected Recorder\(epochs='told'\)"):
        Recorder(2).end_epoch(group=object())


def test_other_recorders_states_and_files_are_refused(tmp_path: Path):
    recorder = Recorder(3)
    for message, other in (
        ("with examples 3, as this one has, got 4", Recorder(4)),
        ("with epochs 'found', as this one has, got 'told'", Recorder(3, epochs="told")),
        ("with early_epochs 5, as this one has, got 7", Recorder(3, early_epochs=7)),
        ("of the same ids in the same order", Recorder(ids=["a", "b", "c"])),
    ):
        with pytest.raises(SpecError, match=message):
            recorder.merge(other)
        with pytest.raises(SpecError, match=message):
            recorder.load_state_dict(other.state_dict())
    with pytest.raises(SpecError, match="a recorder's state, got one of weight"):
        recorder.load_state_dict({"weight": torch.zeros(1)})
    with pytest.raises(TypeError, match=r"text or whole numbers, to be stored, got \(1, 2\)"):
        Recorder(ids=[(1, 2)]).save(tmp_path / "odd.safetensors")
    (tmp_path / "text.safetensors").write_text("not a recorder")
    for name in ("text.safetensors", "missing.safetensors"):
        with pytest.raises(StoreError, match=f"Could not read .*{name}"):
            Recorder.load(tmp_path / name)
    with pytest.raises(StoreError, match="Could not write"):
        recorder.save(tmp_path / "no" / "folder.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.safetensors"]


def _process(rank: int, folder: str) -> None:
    """One of two that train together: of five examples each sees three, one of them in both."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    recorder = Recorder(5, epochs="told")
    for epoch in range(4):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(epoch)).tolist()
        own = (order + order[:1])[rank::2]
        recorder.update(own, _logits(epoch)[own], [0] * len(own))
        recorder.end_epoch(group=distributed.group.WORLD)
    recorder.save(f"{folder}/{rank}.safetensors")
    distributed.destroy_process_group()


def _logits(epoch: int) -> torch.Tensor:
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(100 + epoch))


@pytest.mark.skipif(sys.platform != "linux", reason="forks, so that torch is not loaded again in each process")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_that_end_epochs_together_each_hold_what_one_process_would(tmp_path: Path):
    """Examples move between processes from epoch to epoch, and one comes twice in each, in both."""
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=_process, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0, 0]
    alone = Recorder(5, epochs="told")
    for epoch in range(4):
        alone.update(range(5), _logits(epoch), [0] * 5)
        alone.end_epoch()
    for rank in range(2):
        shared = Recorder.load(tmp_path / f"{rank}.safetensors")
        assert shared.scores().arrow.equals(alone.scores().arrow)
