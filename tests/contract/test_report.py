"""The report's promises that need no browser: one file, all figures, all text inert, whole or not at all."""

import dataclasses
import json
import re
import struct
import zlib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import plotly.graph_objects
import pytest

from byrote.core import StoreError
from byrote.records import (
    SAM,
    SGD,
    Adam,
    Bar,
    Bars,
    Column,
    Cosine,
    Counts,
    Curves,
    Figure,
    Gallery,
    GalleryItem,
    Heatmap,
    Histogram,
    ImageContent,
    Recipe,
    Record,
    Regularisers,
    Series,
    Share,
    ShareRow,
    Shares,
    Switch,
    Table,
    WarmUp,
    dumps,
    loads,
)
from byrote.report import render, write_report
from byrote.report.papers import citation
from byrote.report.png import png
from sample_record import (
    every_figure,
    every_kind_record,
    finding,
    sample_record,
    stopped_record,
    with_text,
)

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    '<a href="javascript:alert(1)">"\'&amp;{{ 7*7 }}{% raw %}'
)
NETWORK_FREE = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


NAMELESS: dict[str, Any] = {"x_label": "", "y_label": "", "value_label": ""}


class Outline(HTMLParser):
    """The page's elements and their attributes, and the JSON of its plots."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.plots: list[dict[str, list[dict[str, object]]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script" and attributes.get("type") == "application/json" and data.strip():
            self.plots.append(json.loads(data))
        elif tag not in ("script", "style"):
            self.text.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def with_figures(*figures: Figure) -> Record:
    record = every_kind_record()
    section = dataclasses.replace(record.sections[0], figures=figures)
    return dataclasses.replace(record, sections=(section,))


@pytest.mark.parametrize("record", [sample_record(), stopped_record(), every_kind_record()])
def test_the_page_needs_no_other_file(record: Record) -> None:
    outline = Outline(render(record))
    policy = next(m["content"] for m in outline.every("meta") if m.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in (policy or "").split("; "))
    assert rules == NETWORK_FREE | {"style-src": "'unsafe-inline'", "script-src": "'unsafe-inline'"}
    assert outline.every("link") == [{"rel": "icon", "href": "data:,"}]
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in outline.every("img"))
    assert all("src" not in script for script in outline.every("script"))
    assert not {"iframe", "object", "embed", "base", "form", "video", "audio"} & {tag for tag, _ in outline.elements}
    for link in outline.every("a"):
        assert re.match(r"#|https?://", link["href"] or "")
        assert (link["href"] or "").startswith("#") or "noopener" in (link["rel"] or "")


def test_style_and_script_of_ours_name_no_address() -> None:
    folder = Path(__file__).parents[2] / "src/byrote/report/templates"
    for asset in (folder / "page.css", folder / "page.js"):
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest", asset.read_text(encoding="utf-8"))


def test_one_copy_of_plotly_and_an_ordinary_size() -> None:
    page = render(sample_record())
    assert len(re.findall(r"plotly\.js v\d", page)) == 1
    assert len(page.encode()) < 6_000_000


def test_the_same_record_gives_the_same_page() -> None:
    assert render(every_kind_record()) == render(every_kind_record())


def test_the_sample_has_every_kind_of_figure() -> None:
    assert {type(figure) for figure in every_figure()} == set(get_args(Figure))


@pytest.mark.parametrize("figure", every_figure(), ids=lambda figure: f"{figure.kind}: {figure.title}")
def test_a_figure_is_drawn_the_same_after_a_round_trip(figure: Figure) -> None:
    record = with_figures(figure)
    stored = loads(Record, dumps(record))
    assert stored == record
    page = render(stored)
    assert page == render(record)
    assert figure.title in page


@pytest.mark.parametrize("record", [sample_record(), stopped_record()])
def test_a_record_is_drawn_the_same_after_a_round_trip(record: Record) -> None:
    assert render(loads(Record, dumps(record))) == render(record)


def test_whole_numbers_and_numbers_that_are_not_there_survive_a_round_trip() -> None:
    nan = float("nan")
    record = with_figures(
        Curves(
            title="gaps",
            x_label="x",
            y_label="y",
            series=(
                Series(name="a", x=(1, 2, 3, 4), y=(1.0, nan, None, 4), low=(0, nan, 2, 3), high=(2, 3, 4, 5)),
                Series(name="b", x=(1, 2), y=(nan, None)),
            ),
            reference=1,
            log_y=True,
        ),
        Bars(title="bars", x_label="x", bars=(Bar(label="a", value=nan), Bar(label="b", value=1, low=0, high=2))),
        Table(title="table", columns=(Column(name="n", digits=1),), rows=((1,), (2.0,), (nan,), (None,))),
    )
    assert render(loads(Record, dumps(record))) == render(record)


def test_a_band_has_a_shape_for_every_stretch() -> None:
    line = Series(name="a", x=(1, 2, 3, 4, 5), y=(1, 2, 3, 4, 5), low=(0, 1, None, 3, 4), high=(2, 3, None, 5, 6))
    outline = Outline(render(with_figures(Curves(title="t", x_label="x", y_label="y", series=(line,)))))
    band = outline.plots[0]["traces"][0]
    assert band["x"] == [1, 2, 2, 1, None, 4, 5, 5, 4]
    assert band["y"] == [0, 1, 3, 2, None, 3, 4, 6, 5]


@pytest.mark.parametrize(
    ("heights", "ticks"),
    [((0.3, 3.0), ("0.5", "1", "2")), ((0.002, 0.1), ("0.002", "0.005", "0.01", "0.02", "0.05", "0.1"))],
)
def test_every_tick_of_a_log_axis_says_its_whole_number(heights: tuple[float, ...], ticks: tuple[str, ...]) -> None:
    line = Series(name="a", x=(1, 2), y=heights)
    figure = Curves(title="t", x_label="x", y_label="y", series=(line,), log_y=True)
    plot: Any = Outline(render(with_figures(figure))).plots[0]
    axis = plot["layout"]["yaxis"]
    least, most = min(heights), max(heights)
    within = [least * 0.999 <= value <= most * 1.001 for value in axis["tickvals"]]
    assert tuple(text for text, shown in zip(axis["ticktext"], within, strict=True) if shown) == ticks


def test_plotly_knows_every_attribute_that_is_used() -> None:
    outline = Outline(render(every_kind_record()))
    assert len(outline.plots) == 9
    for plot in outline.plots:
        text = re.sub(r'"--[a-z0-9-]+(/[\d.]+)?"', '"#123456"', json.dumps(plot))
        spec = json.loads(text)
        assert "--" not in text
        plotly.graph_objects.Figure(data=spec["traces"], layout=spec["layout"])


def test_every_colour_that_is_used_is_defined_in_light_and_in_dark() -> None:
    css = (Path(__file__).parents[2] / "src/byrote/report/templates/page.css").read_text(encoding="utf-8")
    light, dark = (Counter(re.findall(r"^\s*(--[a-z0-9-]+):\s*#", part, re.MULTILINE)) for part in _themes(css))
    outline = Outline(render(every_kind_record()))
    used = set(re.findall(r'"(--[a-z0-9-]+)(?:/[\d.]+)?"', json.dumps(outline.plots)))
    styles = " ".join(attributes.get("style") or "" for _, attributes in outline.elements)
    used |= set(re.findall(r"var\((--[a-z0-9-]+)\)", styles))
    used |= set(re.findall(r"var\((--[a-z0-9-]+)\)", css)) - {"--serif", "--sans", "--mono", "--aspect", "--drawn"}
    assert {"--series-1", "--learnt", "--paper"} <= used
    assert used <= set(light) == set(dark)


def test_points_are_not_joined_and_say_where_they_are() -> None:
    line = Series(name="a", x=(1.0, 2.0, 3.0), y=(0.5, None, 0.25))
    outline = Outline(render(with_figures(Curves(title="t", x_label="x", y_label="y", series=(line,), points=True))))
    assert outline.plots[0]["traces"][0]["mode"] == "markers"
    [described] = [a["aria-label"] for _, a in outline.elements if a.get("class") == "plot"]
    assert described == "t. a: 3 dots from 1.00 to 3.00 across and 0.250 to 0.500 up."


def test_a_heatmap_says_where_it_is_lowest_and_highest_and_where_its_path_ends() -> None:
    figure = Heatmap(
        title="plane",
        x_label="x",
        y_label="y",
        value_label="loss",
        x=(0.0, 1.0),
        y=(-1.0, 2.0),
        values=((1.0, 100.0), (0.0, None)),
        paths=(Series(name="training", x=(0.0, 1.0), y=(2.0, -1.0)),),
        log=True,
    )
    outline = Outline(render(with_figures(figure)))
    [described] = [a["aria-label"] for _, a in outline.elements if a.get("class") == "plot"]
    assert described == (
        "plane. loss is lowest, 0, at 0 and 2.00; loss is highest, 100, at 1.00 and −1.00; training ends at 1.00 and "
        "−1.00."
    )
    assert outline.plots[0]["traces"][0]["z"] == [[0.0, 2.0], [None, None]]
    assert [trace["type"] for trace in outline.plots[0]["traces"]] == ["heatmap", "scatter", "scatter", "scatter"]


def test_names_on_a_heatmap_read_from_above() -> None:
    names = ("input", "hidden")
    figure = Heatmap(
        title="pairs", x_label="", y_label="", value_label="CKA", x=names, y=names, values=((1.0, 0.5), (0.5, 1.0))
    )
    look: Any = Outline(render(with_figures(figure))).plots[0]["layout"]
    axis = look["yaxis"]
    assert (axis["ticktext"], axis["autorange"]) == (["input", "hidden"], "reversed")


def _themes(css: str) -> tuple[str, str]:
    start = css.index("@media screen and (prefers-color-scheme: dark)")
    return css[:start], css[start : css.index("\n}\n", start)]


def test_text_from_a_record_is_never_markup() -> None:
    harmless, hostile = (Outline(render(with_text(every_kind_record(), text))) for text in ("harmless", HOSTILE))
    assert Counter(tag for tag, _ in hostile.elements) == Counter(tag for tag, _ in harmless.elements)
    names = {name for _, attributes in hostile.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert "49" not in "".join(hostile.text)
    assert all((link["href"] or "").startswith("#") for link in hostile.every("a"))


def test_ids_are_unique_and_links_within_the_page_have_a_target() -> None:
    record = sample_record()
    twice = dataclasses.replace(record, sections=(*record.sections, *record.sections))
    outline = Outline(render(twice))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = ("aria-labelledby", "data-plot", "data-source")
    targets = {(link["href"] or "")[1:] for link in outline.every("a") if (link["href"] or "").startswith("#")}
    targets |= {a[name] or "" for _, a in outline.elements for name in named if name in a}
    assert targets <= set(ids)


def test_there_is_a_chip_for_every_finding_and_only_a_leak_warns() -> None:
    for record, num_leaks in ((sample_record(), 0), (stopped_record(), 1)):
        chips = [
            link["class"] or "" for link in Outline(render(record)).every("a") if "chip" in (link.get("class") or "")
        ]
        assert len(chips) == sum(len(section.findings) for section in record.sections)
        assert chips.count("chip leak") == num_leaks


def test_a_stopped_audit_says_so() -> None:
    assert "48 of 120 planned trainings" in render(stopped_record())
    assert "Stopped early" not in render(sample_record())


def test_what_probes_cost_is_told_as_a_share_of_the_training_without_them() -> None:
    record = sample_record()
    probed = dataclasses.replace(
        record, cost=dataclasses.replace(record.cost, training_seconds=66.0, probing_seconds=6.0)
    )
    assert "6.0 s, 10.0 % of the rest" in render(probed)
    assert "of the rest" not in render(record)


def test_a_section_without_findings_figures_and_notes_is_drawn() -> None:
    record = sample_record()
    bare = dataclasses.replace(record.sections[0], findings=(), figures=(), notes=(), summary="")
    assert record.sections[0].title in render(dataclasses.replace(record, sections=(bare,)))
    assert "What was run" in render(dataclasses.replace(record, sections=()))


@pytest.mark.parametrize(
    "figure",
    [
        Curves(title="none", x_label="", y_label="", series=()),
        Bars(title="none", x_label="", bars=()),
        Histogram(title="none", x_label="", y_label="", series=()),
        Shares(title="none", rows=()),
        Table(title="none", columns=(Column(name="a"),), rows=()),
        Gallery(title="none", items=()),
        Heatmap(title="none", x_label="", y_label="", value_label="", x=(), y=(), values=()),
        Heatmap(title="none", x_label="", y_label="", value_label="", x=(1, 2), y=(1,), values=((None, None),)),
    ],
    ids=lambda figure: figure.kind,
)
def test_an_empty_figure_says_that_it_is_empty(figure: Figure) -> None:
    outline = Outline(render(with_figures(figure)))
    assert [a for _, a in outline.elements if a.get("class") == "nothing"]
    assert not outline.plots


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (
            Curves(title="t", x_label="", y_label="", series=(Series(name="s", x=(1, 2), y=(1,)),)),
            "Expected 2 y in series 's', one per x, got 1",
        ),
        (
            Curves(
                title="t", x_label="", y_label="", series=(Series(name="s", x=(1,), y=(1,), low=(1, 2), high=(1,)),)
            ),
            "Expected 1 low in series 's'",
        ),
        (
            Histogram(title="t", x_label="", y_label="", series=(Counts(name="c", edges=(0, 1), counts=(1, 2)),)),
            "got 2 edges and 2 counts",
        ),
        (Heatmap(title="t", **NAMELESS, x=(1, 2), y=(1,), values=((1,),)), "Expected 1 rows of 2 values in 't'"),
        (Heatmap(title="t", **NAMELESS, x=(2, 1), y=(1,), values=((1, 2),)), "Expected ascending numbers as x of 't'"),
        (Heatmap(title="t", **NAMELESS, x=("a", 1), y=(1,), values=((1, 2),)), "Expected names alone as x"),
        (
            Heatmap(
                title="t", **NAMELESS, x=("a",), y=("b",), values=((1,),), paths=(Series(name="p", x=(1,), y=(1,)),)
            ),
            "no path over them",
        ),
        (
            Heatmap(title="t", **NAMELESS, x=(1,), y=(1,), values=((1,),), paths=(Series(name="p", x=(1,), y=()),)),
            "Expected one y for each x in path 'p', got 0",
        ),
        (Shares(title="t", rows=(ShareRow(label="r", parts=(Share(name="a", value=1.2),)),)), "at most 1"),
        (Shares(title="t", rows=(ShareRow(label="r", parts=(Share(name="a", value=-0.2),)),)), "from 0"),
        (Table(title="t", columns=(Column(name="a"),), rows=((1, 2),)), "Expected 1 cells a row"),
        (
            Gallery(
                title="t",
                items=(
                    GalleryItem(id="i", target="", content=ImageContent(height=2, width=2, channels=3, pixels=(1, 2))),
                ),
            ),
            "2 × 2 × 3 = 12 pixel values",
        ),
    ],
)
def test_a_figure_that_contradicts_itself_is_refused(figure: Figure, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        render(with_figures(figure))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels_it_was_given(channels: int) -> None:
    height, width = 3, 5
    pixels = tuple(index * 7 % 256 for index in range(height * width * channels))
    data = png(ImageContent(height=height, width=width, channels=1 if channels == 1 else 3, pixels=pixels))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, payload = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + payload)
        chunks[name], at = payload, at + 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    rows, stride = zlib.decompress(chunks[b"IDAT"]), width * channels
    lines = [rows[start : start + stride + 1] for start in range(0, len(rows), stride + 1)]
    assert [line[0] for line in lines] == [0] * height
    assert tuple(b"".join(line[1:] for line in lines)) == pixels


@pytest.mark.parametrize(
    "paper",
    [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "http://",
        "https://[broken",
        "ftp://example.org/paper",
        "",
    ],
)
def test_only_web_addresses_become_links(paper: str) -> None:
    assert not [part for part in citation(paper) if part.href]


def test_a_citation_loses_no_text() -> None:
    paper = "A & B 2020, Title: with https in it, https://example.org/a?b=c&d=1#e; C 2021, http://www.example.org/f."
    parts = citation(paper)
    assert [part.href for part in parts if part.href] == [
        "https://example.org/a?b=c&d=1#e",
        "http://www.example.org/f",
    ]
    assert "".join(part.href or part.text for part in parts) == paper


def test_a_report_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_report(sample_record(), path=path) == path
    assert path.read_text(encoding="utf-8") == render(sample_record())
    write_report(stopped_record(), path=path)
    assert path.read_text(encoding="utf-8") == render(stopped_record())
    assert list(path.parent.iterdir()) == [path]


def test_a_report_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write_report(sample_record(), path=path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_gets_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write the report to .*Choose another path"):
        write_report(sample_record(), path=tmp_path / "file" / "report.html")


def test_text_that_no_encoding_holds_is_written(tmp_path: Path) -> None:
    record = with_text(sample_record(), "lone \ud800 surrogate, \x00 and \u202e")
    text = write_report(record, path=tmp_path / "r.html").read_text(encoding="utf-8")
    assert "lone  surrogate" in text
    assert not set("\x00\u202e") & set(text.replace("\\u202e", ""))


def test_numbers_are_written_for_people() -> None:
    numbers = finding("c", "s", value=0.99412, low=0.99, high=0.9968, null=0.1, p_value=0.0004, num_runs=1200)
    section = dataclasses.replace(sample_record().sections[0], findings=(numbers,))
    page = " ".join(Outline(render(dataclasses.replace(sample_record(), sections=(section,)))).text)
    for words in ("0.994", "(95 % interval 0.990 to 0.997)", "null 0.1", "p < 0.001", "1\u202f200 runs"):
        assert words in page


def test_everything_about_a_recipe_is_said() -> None:
    """Nesterov and SAM, warm-up, regularisers, full batches, bfloat16, and what is another from a step on."""
    recipe = Recipe(
        optimiser=SAM(base=SGD(lr=0.2, nesterov=True), rho=0.1),
        schedule=WarmUp(steps=30, then=Cosine()),
        batch_size="all",
        regularisers=Regularisers(dropout=0.0, label_smoothing=0.1, clip_norm=5.0),
        autocast=True,
        switches=(
            Switch(step=40, optimiser=Adam(lr=0.002), batch_size=16, regularisers=Regularisers(input_noise=0.3)),
        ),
    )
    record = sample_record()
    told = dataclasses.replace(record, learner=dataclasses.replace(record.learner, recipe=recipe))
    text = " ".join(" ".join(Outline(render(told)).text).split())
    for words in (
        "SAM within ρ 0.1 of SGD, Nesterov momentum 0.9, weight decay 0",
        "0.2, warmed up for 30 steps, falling to 0 along half a cosine",
        "all examples: full-batch gradient descent",
        "dropout 0",
        "label smoothing 0.1",
        "longest gradient 5",
        "float32, computing in bfloat16",
        "from step 40 on Adam, β₁ 0.9, β₂ 0.999, ε 1e-08, weight decay 0; learning rate 0.002, constant; "
        "batches of 16; input noise 0.3",
    ):
        assert words in text
    assert "label smoothing" not in " ".join(Outline(render(record)).text)
