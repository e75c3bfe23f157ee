"""The report in a real Chromium: it opens, draws, fits, sorts, prints, and asks nothing of the network."""

import dataclasses
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from byrote.records import ImageContent, Record
from byrote.report import write_report
from sample_record import every_kind_record, sample_record, stopped_record, with_text

sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = (
    '</script><script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">'
    "<a href='javascript:window.pwned = 1'>a</a> \"'`&lt;b&gt; %{y} {{ 7 * 7 }} \u202eעברית عربى\u202c \x00"
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


class Opened(NamedTuple):
    """A page and everything that went wrong on it."""

    page: Any
    complaints: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


RECORDS = {
    "ordinary": sample_record,
    "stopped": stopped_record,
    "every-kind": every_kind_record,
    "hostile": lambda: with_text(every_kind_record(), HOSTILE),
    "long-names": lambda: with_text(every_kind_record(), "n" * 10_000),
    "empty-names": lambda: with_text(every_kind_record(), ""),
}


def opened(browser: Any, folder: Path, name: str, *, width: int = 1400, scheme: str = "light") -> Opened:
    """Open a record's report, keeping a list of errors and of requests other than the file itself."""
    path = folder / f"{name}.html"
    if not path.exists():
        write_report(RECORDS[name](), path=path)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on(
        "request", lambda request: complaints.append(f"request: {request.url}") if foreign(request.url, path) else None
    )
    page.goto(path.as_uri())
    page.wait_for_function("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.main-svg'))")
    return Opened(page, complaints)


def foreign(url: str, path: Path) -> bool:
    return url.split("#")[0] != path.as_uri() and not url.startswith("data:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", RECORDS)
def test_it_opens_without_a_complaint_draws_and_fits(
    browser: Any, folder: Path, name: str, width: int, scheme: str
) -> None:
    page, complaints = opened(browser, folder, name, width=width, scheme=scheme)
    plots = page.evaluate(
        """[...document.querySelectorAll('.plot')].map(plot => {
            const box = plot.querySelector('.main-svg').getBoundingClientRect();
            const marks = plot.querySelectorAll('.scatterlayer .trace, .barlayer .point, .heatmaplayer .hm');
            return {width: box.width, height: box.height, host: plot.clientWidth, marks: marks.length};
        })"""
    )
    figures = [figure for section in RECORDS[name]().sections for figure in section.figures]
    assert len(plots) == sum(figure.kind not in ("table", "gallery", "shares") for figure in figures)
    assert len(plots) >= 6
    for plot in plots:
        assert plot["width"] == pytest.approx(plot["host"], abs=1)
        assert plot["width"] > 250
        assert plot["height"] > 100
        assert plot["marks"] > 0
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('img[onerror], a[href^=javascript]').length") == 0
    assert complaints == []
    page.close()


def test_hostile_text_is_shown_as_it_is(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "hostile")
    assert page.locator("h1").inner_text().startswith("</script><script>window.pwned = 1</script>")
    ticks = page.locator(".plot .ytick text").all_text_contents()
    assert sum(tick.startswith("</script>") for tick in ticks) == 12
    assert "{{ 7 * 7 }}" in page.locator(".passage pre").first.inner_text()
    page.close()


def test_every_image_has_the_pixels_of_the_record(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "every-kind")
    shown = page.evaluate(
        """[...document.querySelectorAll('.card img')].map(image => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
        })"""
    )
    contents = [
        one.content
        for figure in every_kind_record().sections[0].figures
        if figure.kind == "gallery"
        for item in figure.items
        for one in (item, *item.beside)
        if isinstance(one.content, ImageContent)
    ]
    assert len(shown) == len(contents) == 33
    for pixels, content in zip(shown, contents, strict=True):
        channels = [pixels[channel::4] for channel in range(content.channels)]
        assert [value for pixel in zip(*channels, strict=True) for value in pixel] == list(content.pixels)
    page.close()


def column(page: Any, index: int) -> list[str]:
    return page.locator(f"table.grid tbody td:nth-child({index + 1})").all_inner_texts()


def test_a_table_sorts_by_click_and_by_keyboard(browser: Any, folder: Path) -> None:
    page, complaints = opened(browser, folder, "every-kind")
    heads = page.locator("table.grid th")
    button = heads.nth(5).locator("button")

    def losses() -> list[float]:
        return [float(text.replace("\u202f", "")) for text in column(page, 5)]

    before = losses()
    assert heads.nth(5).get_attribute("aria-sort") == "none"
    button.click()
    assert heads.nth(5).get_attribute("aria-sort") == "ascending"
    assert losses() == sorted(before) != before
    button.focus()
    page.keyboard.press("Enter")
    assert heads.nth(5).get_attribute("aria-sort") == "descending"
    assert losses() == sorted(before, reverse=True)
    heads.nth(2).locator("button").focus()
    for missing_last in ("ascending", "descending"):
        page.keyboard.press("Space")
        assert heads.nth(2).get_attribute("aria-sort") == missing_last
        assert heads.nth(5).get_attribute("aria-sort") == "none"
        suggested = column(page, 2)
        there = [int(text) for text in suggested if text != "–"]
        assert suggested[len(there) :] == ["–"] * (len(suggested) - len(there))
        assert there == sorted(there, reverse=missing_last == "descending")
    heads.nth(0).locator("button").click()
    examples = column(page, 0)
    assert examples == sorted(examples, key=lambda text: int(text.split("-")[1]))
    assert complaints == []
    page.close()


def test_a_wide_table_scrolls_in_its_own_box(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "every-kind", width=400)
    box = "document.querySelector('.scroll')"
    assert page.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
    assert page.evaluate(f"getComputedStyle({box}).overflowX") == "auto"
    assert page.evaluate(f"{box}.tabIndex") == 0
    page.close()


def line_colours(page: Any) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('.js-line')].map(line => getComputedStyle(line).stroke)")


def test_plots_follow_the_colour_scheme(browser: Any, folder: Path) -> None:
    page, complaints = opened(browser, folder, "ordinary")
    light = line_colours(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    dark = line_colours(page)
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(200)
    assert len(light) == 11
    assert not set(light) & set(dark)
    assert line_colours(page) == light
    assert complaints == []
    page.close()


def test_a_legend_hides_and_shows_its_line_and_keeps_it_hidden_in_another_scheme(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "ordinary")
    plot = page.locator(".figure", has=page.locator(".plot")).first
    key = plot.locator(".key").nth(1)
    assert plot.locator(".js-line").count() == 5
    key.focus()
    page.keyboard.press("Enter")
    assert key.get_attribute("aria-pressed") == "false"
    assert plot.locator(".js-line").count() == 4
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert plot.locator(".js-line").count() == 4
    key.click()
    assert plot.locator(".js-line").count() == 5
    page.close()


def test_a_long_text_is_clamped_until_more_is_asked_for(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "every-kind")
    long, short = page.locator(".passage").nth(1), page.locator(".passage").nth(0)
    assert not short.locator(".more").is_visible()
    before = long.locator("pre").bounding_box()["height"]
    long.locator(".more").focus()
    page.keyboard.press("Enter")
    assert long.locator(".more").get_attribute("aria-expanded") == "true"
    assert long.locator("pre").bounding_box()["height"] > 1.5 * before
    page.close()


def test_a_chip_leads_to_its_finding(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "stopped", width=400)
    page.locator(".chip.leak").click()
    page.wait_for_timeout(800)
    target = page.locator(".claim.leak")
    assert target.bounding_box()["y"] < 900
    assert "36 test examples repeat training ones" in target.inner_text()
    page.close()


def test_it_prints_light_and_whole_from_a_dark_screen(browser: Any, folder: Path) -> None:
    light, _ = opened(browser, folder, "ordinary")
    page, complaints = opened(browser, folder, "ordinary", width=400, scheme="dark")
    on_screen = line_colours(page)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.set_viewport_size({"width": 680, "height": 960})
    assert line_colours(page) == line_colours(light)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    overflowing = page.evaluate(
        """[...document.querySelectorAll('.plot')].filter(plot => {
            const box = plot.querySelector('.main-svg').getBoundingClientRect();
            const frame = plot.closest('figure').getBoundingClientRect();
            return box.width < 150 || box.height < 80 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
        }).length"""
    )
    assert overflowing == 0
    assert page.pdf(format="A4").startswith(b"%PDF-")
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert line_colours(page) == on_screen
    assert complaints == []
    for each in (page, light):
        each.close()


def test_it_reads_without_script(browser: Any, folder: Path) -> None:
    record: Record = dataclasses.replace(sample_record(), title="no script")
    path = write_report(record, path=folder / "no-script.html")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "need JavaScript" in page.locator("noscript").inner_text()
    assert page.locator(".claim").count() == 11
    assert page.locator(".whole").count() == 4
    context.close()


def test_headings_descend_and_every_control_has_a_name(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "every-kind")
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map(heading => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    nameless = "[...document.querySelectorAll('button, a')].filter(e => !e.textContent.trim()).length"
    assert page.evaluate(nameless) == 0
    assert page.evaluate("document.querySelectorAll('img:not([alt])').length") == 0
    page.close()
