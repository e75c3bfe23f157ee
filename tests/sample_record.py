"""A record with MADE-UP numbers, shaped like an audit of the digits, for tests and for looking at the page.

Nothing here was measured: the curves are formulas, the intervals are typed in. Only the pictures are real.
"""

import dataclasses
import math
from typing import Any, TypeVar

from sklearn.datasets import load_digits

from byrote.records import (
    Bar,
    Bars,
    Beside,
    Column,
    Cost,
    Counts,
    Curves,
    Figure,
    Finding,
    Gallery,
    GalleryItem,
    Heatmap,
    Histogram,
    ImageContent,
    Learner,
    ModelSpec,
    Provenance,
    Recipe,
    Record,
    RowContent,
    Section,
    Series,
    Share,
    ShareRow,
    Shares,
    Table,
    TaskCard,
    TextContent,
    Verdict,
)

R = TypeVar("R")

ZHANG = "Zhang et al. 2017, Understanding deep learning requires rethinking generalization, https://arxiv.org/abs/1611.03530"
ARPIT = "Arpit et al. 2017, A closer look at memorization in deep networks, https://arxiv.org/abs/1706.05394"
FELDMAN = "Feldman and Zhang 2020, What neural networks memorize and why, https://arxiv.org/abs/2008.03703"
CHAIBUB = (
    "Chaibub Neto 2018, Detecting learning vs memorization in deep neural networks, https://arxiv.org/abs/1805.11783"
)

EPOCHS = tuple(range(1, 41))


def finding(claim: str, statement: str, *, verdict: Verdict = "holds", **numbers: Any) -> Finding:
    """A finding with what is not said left empty."""
    empty = {"value": None, "low": None, "high": None, "null": None, "p_value": None, "num_runs": 5}
    named = {"study": "random-data", "unit": "accuracy", "paper": ZHANG}
    return Finding(**{"claim": claim, "statement": statement, "verdict": verdict, **empty, **named, **numbers})


def rising(name: str, *, pace: float, top: float = 1.0, start: float = 0.1, spread: float = 0.02) -> Series:
    """A made-up learning curve with a band that narrows."""
    y = tuple(top - (top - start) * math.exp(-((epoch / pace) ** 1.4)) for epoch in EPOCHS)
    widths = tuple(spread * (1 - abs(2 * (value - start) / (top - start) - 1)) + 0.003 for value in y)
    return Series(
        name=name,
        x=EPOCHS,
        y=y,
        low=tuple(value - width for value, width in zip(y, widths, strict=True)),
        high=tuple(min(value + width, 1.0) for value, width in zip(y, widths, strict=True)),
    )


def falling(name: str, *, pace: float, spread: float = 0.15) -> Series:
    """A made-up loss curve on a log axis."""
    y = tuple(2.3 * math.exp(-epoch / pace) + 0.002 for epoch in EPOCHS)
    low, high = tuple(v * (1 - spread) for v in y), tuple(v * (1 + spread) for v in y)
    return Series(name=name, x=EPOCHS, y=y, low=low, high=high)


def training_curves() -> Curves:
    return Curves(
        title="How fast each kind of data is fitted",
        x_label="epoch",
        y_label="training accuracy",
        series=(
            rising("true labels", pace=2.2),
            rising("random labels", pace=16.0, spread=0.06),
            rising("shuffled inputs", pace=3.0),
            rising("random inputs", pace=9.0, spread=0.05),
            rising("Gaussian inputs", pace=6.5, spread=0.04),
        ),
        caption="Mean over five seeds; the band is the 95 % interval of the mean.",
        reference=0.1,
        reference_label="chance",
    )


def loss_curves() -> Curves:
    return Curves(
        title="Training loss",
        x_label="epoch",
        y_label="cross-entropy, log scale",
        series=(
            falling("true labels", pace=3.0),
            falling("random labels", pace=9.0),
            falling("shuffled inputs", pace=3.6),
            falling("random inputs", pace=7.0),
            falling("Gaussian inputs", pace=5.5),
        ),
        caption="Random labels start slowly and end as low as true ones.",
        log_y=True,
    )


def corruption_curves() -> Curves:
    fractions = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    errors = (0.031, 0.082, 0.191, 0.402, 0.668, 0.901)
    return Curves(
        title="Test error against label corruption",
        x_label="share of training labels drawn again at random",
        y_label="test error",
        series=(
            Series(
                name="mlp",
                x=fractions,
                y=errors,
                low=tuple(error - 0.012 for error in errors),
                high=tuple(error + 0.012 for error in errors),
            ),
        ),
        caption="Every one of these networks fits its training labels.",
        reference=0.9,
        reference_label="guessing: 1 − 1/k",
    )


def baseline_bars() -> Bars:
    return Bars(
        title="The network against things that look up, vote and weigh",
        x_label="accuracy on the same 360 held-out examples",
        bars=(
            Bar(label="mlp(width=256)", value=0.969, low=0.961, high=0.977, group="network"),
            Bar(label="1 nearest neighbour", value=0.964, low=0.945, high=0.981, group="lookup table"),
            Bar(label="5 nearest neighbours", value=0.958, low=0.936, high=0.978, group="lookup table"),
            Bar(label="exact match", value=0.103, low=0.072, high=0.136, group="lookup table"),
            Bar(label="random forest, 100 trees", value=0.961, low=0.941, high=0.978, group="forest"),
            Bar(label="Gaussian kernel machine", value=0.978, low=0.961, high=0.992, group="kernel machine"),
            Bar(label="Laplacian kernel machine", value=0.975, low=0.958, high=0.989, group="kernel machine"),
        ),
        caption="Dots are accuracies, whiskers 95 % intervals.",
        reference=0.1,
        reference_label="chance",
    )


def distance_bars() -> Bars:
    return Bars(
        title="Network minus 1-NN, by distance to the nearest training example",
        x_label="difference in accuracy",
        bars=(
            Bar(label="nearest fifth", value=0.0, low=-0.02, high=0.02),
            Bar(label="second fifth", value=0.002, low=-0.018, high=0.022),
            Bar(label="third fifth", value=-0.004, low=-0.03, high=0.022),
            Bar(label="fourth fifth", value=0.011, low=-0.02, high=0.042),
            Bar(label="farthest fifth", value=0.031, low=-0.014, high=0.076),
        ),
        caption="Above 0 the network is better.",
        reference=0.0,
        reference_label="equal",
    )


def learnt_shares() -> Shares:
    def row(label: str, learnt: float, memorised: float) -> ShareRow:
        parts = (("learnt", learnt), ("chance alone", 0.1), ("memorised", memorised))
        return ShareRow(label=label, parts=tuple(Share(name=name, value=value) for name, value in parts))

    return Shares(
        title="Of 100 training answers, how many are what",
        rows=(
            row("mlp(width=256)", 0.861, 0.034),
            row("1 nearest neighbour", 0.858, 0.042),
            row("random forest", 0.849, 0.051),
            row("Gaussian kernel machine", 0.872, 0.028),
        ),
        caption="Learnt: right when left out, above chance. Memorised: right only when trained on.",
    )


def score_histogram() -> Histogram:
    edges = tuple(round(-0.2 + 0.05 * index, 2) for index in range(25))
    counts = tuple(round(900 * math.exp(-abs(edge) * 9) + 2 * (edge > 0.3)) for edge in edges[:-1])
    late = tuple(round(60 * math.exp(-((edge - 0.75) ** 2) * 30)) for edge in edges[:-1])
    return Histogram(
        title="How memorisation is distributed",
        x_label="memorisation score",
        y_label="training examples, log scale",
        series=(
            Counts(name="all examples", edges=edges, counts=counts),
            Counts(name="suspected label errors", edges=edges, counts=late),
        ),
        caption="Most examples are known without having been seen; a long tail is not.",
        log_y=True,
    )


def suspects_table() -> Table:
    rows = tuple(
        (
            f"train-{37 * k % 1437}",
            k % 10,
            (k * 3 + 1) % 10 if k % 4 else None,
            0.97 - 0.031 * k,
            0.02 + 0.002 * k,
            1200 - 83 * k,
        )
        for k in range(14)
    )
    return Table(
        title="Suspected label errors",
        columns=(
            Column(name="example"),
            Column(name="label"),
            Column(name="suggested"),
            Column(name="memorisation", digits=3),
            Column(name="standard error", digits=3),
            Column(name="loss, summed", digits=0),
        ),
        rows=rows,
        caption="Sorted by suspicion; sort by any column.",
    )


def image_gallery() -> Gallery:
    pixels, _ = load_digits(return_X_y=True)
    return Gallery(
        title="The most memorised examples",
        items=tuple(
            GalleryItem(
                id=f"train-{index}",
                content=ImageContent(height=8, width=8, channels=1, pixels=tuple(int(v * 255 / 16) for v in image)),
                target=str(index % 10),
                suggested=str((index + 3) % 10) if index % 3 == 0 else "",
                notes=(("memorisation", f"{0.98 - 0.02 * index:.2f} ± 0.04"),),
                beside=(
                    Beside(
                        name=f"nearest {index % 10}",
                        id="near <b>",
                        content=ImageContent(height=1, width=2, channels=1, pixels=(0, 255)),
                        target=str(index % 10),
                    ),
                ),
            )
            for index, image in enumerate(pixels[:16])
        ),
        caption="The networks that saw these get them right; those that did not, do not.",
    )


def row_gallery() -> Gallery:
    names = ("age", "income", "region", "tenure in months", "balance")
    values = (
        (41, 52000.0, "north", 18, -120.5),
        (23, None, "south-west", 2, 0.0),
        (67, 31250.0, "north", 240, 8841.25),
    )
    return Gallery(
        title="Rows that are known by rote",
        items=tuple(
            GalleryItem(
                id=f"row-{index}",
                content=RowContent(names=names, values=cells),
                target="churned",
                suggested="stayed" if index else "",
                notes=(("memorisation", "0.91 ± 0.05"), ("held-out correct", "0.04")),
            )
            for index, cells in enumerate(values)
        ),
    )


def text_gallery() -> Gallery:
    texts = (
        "A short text.",
        "A text that goes on. " * 60,
        "def f(x):\n    return x < 3 and '</script>' or \"&amp;\"\n",
    )
    return Gallery(
        title="Texts that are known by rote",
        items=tuple(
            GalleryItem(id=f"text-{index}", content=TextContent(text=text), target="spam", suggested="ham")
            for index, text in enumerate(texts)
        ),
    )


def colour_gallery() -> Gallery:
    pixels = tuple(value for row in range(6) for column in range(9) for value in (row * 50, column * 28, 128))
    content = ImageContent(height=6, width=9, channels=3, pixels=pixels)
    return Gallery(title="Colour", items=(GalleryItem(id="c", content=content, target="3.25"),))


def scattered() -> Curves:
    return Curves(
        title="Held-out accuracy beside sharpness",
        x_label="sharpness, log scale",
        y_label="held-out accuracy",
        series=(
            Series(name="own recipe", x=(1.0, 1.4, 2.0), y=(0.97, 0.975, 0.96)),
            Series(name="SAM", x=(0.2, 0.3, None), y=(0.97, 0.98, 0.97)),
        ),
        log_x=True,
        points=True,
        caption="A made-up dot for every network.",
    )


def loss_plane() -> Heatmap:
    axis = tuple(step / 10 for step in range(-10, 11))
    return Heatmap(
        title="The loss around the end",
        x_label="first direction",
        y_label="second direction",
        value_label="training loss",
        x=axis,
        y=axis,
        values=tuple(tuple(0.01 + x * x + 3 * y * y if x + y < 1.8 else None for x in axis) for y in axis),
        paths=(Series(name="training", x=(-0.9, -0.4, -0.1, 0.0), y=(0.8, 0.3, 0.1, 0.0)),),
        contours=True,
        log=True,
        caption="A made-up bowl with the way into it.",
    )


def layer_pairs() -> Heatmap:
    layers = ("input", "hidden 1", "hidden 2", "output")
    return Heatmap(
        title="How alike layers are",
        x_label="of one network",
        y_label="of another",
        value_label="CKA",
        x=layers,
        y=layers,
        values=tuple(tuple(1 / (1 + abs(one - other)) for one in range(4)) for other in range(4)),
    )


def every_figure() -> tuple[Figure, ...]:
    """At least one figure of every kind."""
    return (
        training_curves(),
        loss_curves(),
        corruption_curves(),
        baseline_bars(),
        distance_bars(),
        score_histogram(),
        learnt_shares(),
        suspects_table(),
        image_gallery(),
        row_gallery(),
        text_gallery(),
        colour_gallery(),
        scattered(),
        loss_plane(),
        layer_pairs(),
    )


def random_data() -> Section:
    return Section(
        study="random-data",
        title="What if it is trained on random data?",
        summary=(
            "The network fits random labels as completely as true ones (training accuracy 0.998), and then knows "
            "nothing about the test set (0.104, where chance is 0.100). It needs 7.3 times as many epochs for it. "
            "Nothing leaks: with random labels the held-out accuracy is what chance gives."
        ),
        findings=(
            finding(
                "random-labels-are-fitted",
                "Networks trained on random labels reach a training accuracy of 0.998.",
                value=0.998,
                low=0.996,
                high=1.0,
                null=0.99,
            ),
            finding(
                "random-labels-test-at-chance",
                "After training on random labels, test accuracy is 0.104; chance is 0.100.",
                value=0.104,
                low=0.088,
                high=0.121,
                null=0.1,
                p_value=0.41,
            ),
            finding(
                "true-labels-fit-faster",
                "Random labels take 7.3 times as many steps to fit as true labels.",
                value=7.3,
                low=6.6,
                high=8.1,
                null=1.0,
                unit="ratio",
                p_value=0.0002,
                paper=ARPIT,
            ),
            finding(
                "random-inputs-start-faster",
                "Random inputs do not start to converge sooner than random labels here: 1.1 epochs later.",
                verdict="does not hold",
                value=1.1,
                low=0.4,
                high=1.8,
                null=0.0,
                unit="epochs",
                p_value=0.99,
            ),
            finding(
                "test-error-rises-with-corruption",
                "Test error rises with every step of label corruption, but two neighbouring levels overlap.",
                verdict="inconclusive",
                value=0.93,
                low=-0.1,
                high=1.0,
                null=0.0,
                unit="rank correlation",
                num_runs=18,
            ),
            finding(
                "no-leak",
                "With randomised training labels, held-out accuracy is at chance: nothing leaks.",
                value=0.104,
                low=0.088,
                high=0.121,
                null=0.1,
                p_value=0.41,
                num_runs=20,
                paper=CHAIBUB,
            ),
        ),
        figures=(training_curves(), loss_curves(), corruption_curves()),
        notes=(
            "Random labels were drawn five times, once for each seed, and stayed fixed over epochs.",
            "The interval of a ratio is that of the ratio of means over seeds (Fieller).",
        ),
    )


def lookup() -> Section:
    return Section(
        study="lookup",
        title="Would a lookup table do?",
        summary=(
            "Nearly. A 1-nearest-neighbour table scores 0.964 on the same held-out examples, the network 0.969; the "
            "difference of 0.005 (−0.012 to 0.022) is within noise. A kernel machine is a little better than both."
        ),
        findings=(
            finding(
                "beats-lookup-table",
                "The network is 0.005 more accurate than the best lookup table on 360 paired test examples.",
                verdict="inconclusive",
                study="lookup",
                value=0.005,
                low=-0.012,
                high=0.022,
                null=0.0,
                unit="difference in accuracy",
                p_value=0.58,
                paper="Cover and Hart 1967, Nearest neighbor pattern classification, https://doi.org/10.1109/TIT.1967.1053964",
            ),
            finding(
                "beats-kernel",
                "The Gaussian kernel machine is 0.009 more accurate than the network.",
                verdict="does not hold",
                study="lookup",
                value=-0.009,
                low=-0.017,
                high=-0.001,
                null=0.0,
                unit="difference in accuracy",
                p_value=0.032,
                paper="Belkin et al. 2018, To understand deep learning we need to understand kernel learning, https://arxiv.org/abs/1802.01396",
            ),
            finding(
                "learnt-share",
                "Of 100 training answers 86 are learnt, beyond the 10 that chance alone would give.",
                study="lookup",
                value=0.861,
                low=0.848,
                high=0.874,
                null=0.0,
                unit="share",
                num_runs=40,
                paper=FELDMAN,
            ),
        ),
        figures=(learnt_shares(), baseline_bars(), distance_bars()),
        notes=("The kernel machine's bandwidth and ridge were chosen on a fifth of the training examples.",),
    )


def memorisation() -> Section:
    return Section(
        study="memorisation",
        title="Which examples are memorised?",
        summary=(
            "Of 1,437 training examples 49 (3.4 %, 2.6 to 4.4) are memorised: networks that never saw them get them "
            "wrong. Fourteen of them look mislabelled."
        ),
        findings=(
            finding(
                "memorised-share",
                "Of 100 training answers 3.4 are memorised.",
                study="memorisation",
                value=0.034,
                low=0.026,
                high=0.044,
                null=0.0,
                unit="share",
                num_runs=40,
                paper=FELDMAN,
            ),
            finding(
                "training-examples-are-fitted",
                "Every training example is fitted by the networks that see it.",
                verdict="inconclusive",
                study="memorisation",
                value=1.0,
                unit="share",
                num_runs=40,
                paper=FELDMAN,
            ),
        ),
        figures=(score_histogram(), image_gallery(), suspects_table()),
        notes=("Scores come from 40 subsets of 70 %; every example was left out 12 times.",),
    )


def sample_record() -> Record:
    """An ordinary record of three studies."""
    return Record(
        title="digits: what did mlp(width=256) learn?",
        task=TaskCard(
            name="digits",
            fingerprint="5d0c3f1b9a7e44b2c6aa",
            modality="image",
            num_train=1437,
            num_test=360,
            classes=tuple("0123456789"),
            chance=0.101,
            input_shape=(1, 8, 8),
            notes=("Pixels were scaled from 0–16 to 0–1.", "A fifth was held out, stratified by class, with seed 0."),
        ),
        learner=Learner(
            model=ModelSpec(name="mlp", arguments=(("depth", 2), ("width", 256))), recipe=Recipe(epochs=40)
        ),
        verdict=(
            "Of 100 training answers, 86 are learnt, 10 chance alone would give and 3 are memorised. A "
            "1-nearest-neighbour table would score 0.964 where the network scores 0.969 (difference 0.005, 95 % "
            "interval −0.012 to 0.022). The network can memorise: it fits random labels completely and then tests "
            "at chance. Nothing leaks (p = 0.41)."
        ),
        sections=(random_data(), lookup(), memorisation()),
        cost=Cost(
            seconds=48.2,
            num_runs=85,
            num_reused=20,
            training_seconds=61.7,
            num_fits=12,
            fitting_seconds=3.4,
            planned_runs=85,
        ),
        provenance=Provenance(
            created="2026-01-01T12:00:00+00:00",
            argv=("byrote", "audit", "digits", "--budget", "60s", "--out", "my runs/digits"),
            seed=0,
            device="cpu",
            dtype="float32",
            python="3.11.2",
            platform="Linux-6.1-x86_64-with-glibc2.36",
            versions=(("byrote", "0.1.0"), ("torch", "2.13.0"), ("numpy", "2.4.6"), ("scikit-learn", "1.9.1")),
            git_revision="c6c995d1a2b3",
            num_threads=2,
        ),
        complete=True,
    )


def stopped_record() -> Record:
    """Stopped early, and with a leak."""
    record = sample_record()
    first, *others = record.sections
    leak = finding(
        "no-leak",
        "With randomised training labels, held-out accuracy is 0.19: 36 test examples repeat training ones.",
        verdict="does not hold",
        value=0.19,
        low=0.16,
        high=0.22,
        null=0.1,
        p_value=0.0004,
        num_runs=20,
    )
    leaky = dataclasses.replace(first, findings=(*first.findings[:-1], leak))
    cost = dataclasses.replace(record.cost, num_runs=48, planned_runs=120)
    return dataclasses.replace(record, sections=(leaky, *others), cost=cost, complete=False)


def every_kind_record() -> Record:
    """One section with every kind of figure."""
    record = sample_record()
    section = dataclasses.replace(random_data(), figures=every_figure())
    return dataclasses.replace(record, sections=(section,))


def with_text(record: R, text: str) -> R:
    """Put a text into every field that takes any text, at every depth."""
    return _replaced(record, text)


def _replaced(value: Any, text: str, *, fixed: bool = False) -> Any:
    if isinstance(value, str):
        return value if fixed else text
    if isinstance(value, tuple):
        return tuple(_replaced(part, text) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        literals = ("kind", "verdict", "dtype") if not isinstance(value, Record) else ()
        parts = [part for part in dataclasses.fields(value) if part.name != "factory"]
        return dataclasses.replace(
            value,
            **{p.name: _replaced(getattr(value, p.name), text, fixed=p.name in literals) for p in parts},
        )
    return value
