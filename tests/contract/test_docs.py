"""What the documentation names is what there is, and the other way round."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import byrote
from byrote.cli.app import app
from byrote.models import MODELS
from byrote.records import Finding
from byrote.studies import STUDIES

DOCS = Path(byrote.__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OURS = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def _commands() -> dict[str, Any]:
    group: Any = get_command(app)
    return dict(group.commands)


def _options() -> set[str]:
    return {
        option
        for command in _commands().values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    }


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    text = re.sub(r"python (benchmarks/|-m benchmarks\.)[^`\n]*", "", page.read_text(encoding="utf-8"))
    assert set(OURS.findall(text)) <= _options() | {"--help", "--version"}


def test_the_command_line_page_names_every_command_and_option() -> None:
    page = _page("cli.md")
    assert _options() - set(OURS.findall(page)) == set()
    assert [name for name in _commands() if f"byrote {name}" not in page] == []


def test_the_command_line_page_names_every_model() -> None:
    page = _page("cli.md")
    assert [name for name in MODELS if f"`{name}`" not in page] == []


def test_the_studies_page_has_a_section_for_every_study() -> None:
    sections = re.findall(r"^## (.+)$", _page("studies.md"), flags=re.MULTILINE)
    assert sorted(sections) == sorted(STUDIES)


def test_the_files_page_names_every_part_of_a_finding() -> None:
    page = _page("files.md")
    assert [name for name in Finding.__dataclass_fields__ if f"`{name}`" not in page] == []


def test_every_claim_that_is_explained_is_made() -> None:
    explained = re.findall(r"^\| `([a-z-]+)` \|", _page("studies.md"), flags=re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in (Path(byrote.__file__).parent / "studies").glob("*.py")]
    assert len(explained) == len(set(explained)) > 0
    assert [claim for claim in explained if not any(f'"{claim}"' in source for source in sources)] == []
