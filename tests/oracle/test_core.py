"""Exact answers for seeds, registries, entry points and optional packages."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from byrote.core import (
    BudgetError,
    ByroteError,
    DataError,
    MissingExtraError,
    ModelError,
    Registry,
    SpecError,
    StoreError,
    UnknownNameError,
    derive,
    did_you_mean,
    load_attribute,
    require,
)


def test_a_seed_is_the_first_63_bits_of_the_hash_of_its_name() -> None:
    text = "7\x1fstr:order\x1fint:3"
    assert derive(7, "order", 3) == int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) // 2


def test_seeds_differ_by_root_purpose_number_and_kind() -> None:
    seeds = {
        derive(0),
        derive(1),
        derive(0, "order"),
        derive(0, "labels"),
        derive(0, "order", 1),
        derive(0, "order", "1"),
        derive(0, 1, "order"),
        derive(0, "order1"),
    }
    assert len(seeds) == 8


def test_a_seed_is_the_same_in_another_process() -> None:
    code = "from byrote.core import derive; print(derive(3, 'subset', 11))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(answer.stdout) == derive(3, "subset", 11)


def test_a_thousand_seeds_are_distinct_and_fill_their_range() -> None:
    seeds = [derive(0, "init", index) for index in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The mean of 1,000 uniform draws on [0, 1) has standard deviation 1/√12,000.
    assert abs(sum(seeds) / 1000 / 2**63 - 0.5) < 4 / 12000**0.5


@pytest.fixture
def studies() -> Registry[int]:
    registry: Registry[int] = Registry("study")
    registry.add("memorisation")(2)
    registry.add("lookup")(1)
    return registry


def test_a_registry_is_a_sorted_mapping(studies: Registry[int]) -> None:
    assert dict(studies) == {"lookup": 1, "memorisation": 2}
    assert list(studies) == ["lookup", "memorisation"]
    assert "lookup" in studies
    assert "lokup" not in studies
    assert len(studies) == 2


def test_a_mistyped_name_is_answered_with_the_right_one(studies: Registry[int]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        studies["lokup"]
    assert str(caught.value) == "Unknown study 'lokup'. Did you mean: lookup? Known: lookup, memorisation."


def test_a_name_like_nothing_gets_no_wild_guess(studies: Registry[int]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        studies["zzz"]
    assert str(caught.value) == "Unknown study 'zzz'. Known: lookup, memorisation."
    assert did_you_mean("zzz", []) == ""


def test_a_name_is_taken_once(studies: Registry[int]) -> None:
    with pytest.raises(ValueError, match="The study name 'lookup' is already taken"):
        studies.add("lookup")(3)
    assert studies["lookup"] == 1


def test_registering_leaves_what_is_decorated_as_it_was() -> None:
    registry: Registry[Callable[[float], float]] = Registry("measure")

    @registry.add("half")
    def half(x: float) -> float:
        return x / 2

    assert half(3.0) == 1.5
    assert registry["half"] is half


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_an_attribute_of_a_file_in_the_working_directory_is_found(here: Path) -> None:
    (here / "entry_found.py").write_text("class Net:\n    class Inner:\n        depth = 3\n")
    assert load_attribute("entry_found:Net").__name__ == "Net"
    assert load_attribute("entry_found:Net.Inner.depth") == 3


@pytest.mark.parametrize("entry", ["", "module", "module:", ":attribute"])
def test_an_entry_point_without_its_two_halves_is_refused(entry: str) -> None:
    with pytest.raises(UnknownNameError, match="Expected 'module:attribute'"):
        load_attribute(entry)


def test_a_missing_module_is_named_with_where_it_was_sought(here: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"No module 'no_such_module_here' in .*no_such_module_here:Net"
    ) as caught:
        load_attribute("no_such_module_here:Net")
    assert str(here) in str(caught.value)


def test_a_mistyped_attribute_is_answered_with_the_right_one(here: Path) -> None:
    (here / "entry_mistyped.py").write_text("make_task = 1\n")
    with pytest.raises(UnknownNameError, match=r"has no attribute 'mak_task'\. Did you mean: make_task\?"):
        load_attribute("entry_mistyped:mak_task")


def test_what_is_missing_inside_the_users_module_is_not_blamed_on_its_name(here: Path) -> None:
    (here / "entry_importing.py").write_text("import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_attribute("entry_importing:Net")


def test_an_installed_package_is_imported() -> None:
    assert require("json", extra="json", purpose="Reading JSON").dumps([1]) == "[1]"


def test_a_package_that_is_not_installed_is_answered_with_the_command() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package", extra="mnist1d", purpose="The task mnist-1d")
    assert str(caught.value) == (
        "The task mnist-1d needs the package 'no_such_package', which is not installed. "
        "Install it with: pip install 'byrote[mnist1d]'"
    )


def test_a_broken_installed_package_is_not_called_missing(here: Path) -> None:
    (here / "half_installed.py").write_text("import no_such_dependency\n")
    sys.path.insert(0, str(here))
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as caught:
        require("half_installed", extra="half", purpose="Half a package")
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (DataError, ValueError),
        (SpecError, ValueError),
        (UnknownNameError, ValueError),
        (ModelError, ValueError),
        (BudgetError, ValueError),
        (StoreError, OSError),
        (MissingExtraError, ImportError),
    ],
)
def test_every_error_is_both_byrotes_and_pythons(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, ByroteError)
    assert issubclass(error, builtin)
