"""What `byrote audit` and `byrote study` both take, typed once."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Command = Callable[..., None]

TASK_HELP = "digits, fashion-mnist, mnist-1d, a .csv/.tsv/.parquet/.npz file, or my_module:make_task."


def _option(*names: str, panel: str, text: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def _data(*names: str, text: str) -> Any:
    return _option(*names, panel="Data", text=text)


def _learner(*names: str, text: str, **more: Any) -> Any:
    return _option(*names, panel="Learner", text=text, **more)


def _cost(*names: str, text: str, **more: Any) -> Any:
    return _option(*names, panel="Cost", text=text, **more)


def _output(*names: str, text: str, **more: Any) -> Any:
    return _option(*names, panel="Output", text=text, **more)


def of_an_audit(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help=TASK_HELP, show_default=False)],
    target: Annotated[str | None, _data(text="A table's target column.")] = None,
    group: Annotated[str | None, _data(text="A table's column of groups that must stay together.")] = None,
    regression: Annotated[
        bool | None, _data("--regression/--classification", text="The target is a number, or a class.")
    ] = None,
    data_dir: Annotated[Path | None, _data(text="Where a data set's files are.")] = None,
    test_fraction: Annotated[float, _data(text="Held-out share, when the data are not split.")] = 0.2,
    model: Annotated[str, _learner(text="mlp, cnn, linear, or my_module:Net.")] = "mlp",
    width: Annotated[int | None, _learner(text="Units or channels of byrote's own models.")] = None,
    epochs: Annotated[int | None, _learner(text="Passes over the data.")] = None,
    batch_size: Annotated[
        str | None, _learner(metavar="N|all", text="Examples a step; all is full-batch gradient descent.")
    ] = None,
    optimiser: Annotated[str, _learner(text="sgd, adam, adamw, or sam around sgd.")] = "sgd",
    lr: Annotated[float | None, _learner("--lr", text="Learning rate.")] = None,
    momentum: Annotated[float | None, _learner(text="Of sgd and sam.", show_default="0.9")] = None,
    weight_decay: Annotated[float | None, _learner(text="As the optimiser has it.")] = None,
    schedule: Annotated[
        str, _learner(text="constant, cosine, linear, or step: a tenth after each third of the epochs.")
    ] = "constant",
    warm_up: Annotated[int | None, _learner(metavar="STEPS", text="Steps until the full learning rate.")] = None,
    dropout: Annotated[float | None, _learner(text="Rate of the model's dropout layers.")] = None,
    label_smoothing: Annotated[float | None, _learner(text="Share of each label given to all classes.")] = None,
    input_noise: Annotated[float | None, _learner(text="Standard deviation of noise on the inputs.")] = None,
    clip_norm: Annotated[float | None, _learner(text="The largest norm of a gradient.")] = None,
    fisher_penalty: Annotated[float | None, _learner(text="On squared gradients with drawn labels.")] = None,
    autocast: Annotated[bool, _learner("--autocast", text="Compute in bfloat16.")] = False,
    runs: Annotated[int | None, _cost(text="Networks per condition, instead of a budget.")] = None,
    budget: Annotated[str | None, _cost(text="Time it may take: 60s, 5m, 1h30m.", show_default="10m")] = None,
    seed: Annotated[int, _cost(text="The root of every random number.")] = 0,
    device: Annotated[str | None, _cost(text="cpu, cuda, …", show_default="a GPU if there is one")] = None,
    workers: Annotated[
        str, _cost(metavar="N|auto", text="Processes that train; auto is one for every processor.")
    ] = "1",
    dry_run: Annotated[
        bool, _cost("--dry-run", text="Say what would be trained and how long it takes; do nothing.")
    ] = False,
    out: Annotated[Path | None, _output(text="Folder for runs, tables and report.", show_default="runs/TASK")] = None,
    keep_weights: Annotated[bool, _output("--keep-weights", text="Keep every network's trained weights, too.")] = False,
    as_json: Annotated[
        bool, _output("--json", text="Print the findings as JSON, and nothing else, on standard output.")
    ] = False,
    fail_on: Annotated[
        list[str] | None,
        _output(
            metavar="CLAIM",
            text="Exit 1 on this: leak, or a claim such as beats-forest that does not hold. Can be repeated.",
        ),
    ] = None,
) -> None:
    """Nothing by itself: these are the parameters that `taking` adds to a command."""


def taking(shared: Command) -> Callable[[Command], Command]:
    """Let a command take, besides its own parameters, those of `shared`.

    Args:
        shared: a function whose signature says what they are.

    Returns:
        A decorator of functions that take them as keywords.
    """

    def decorate(command: Command) -> Command:
        own = [
            parameter
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        demanded = [parameter for parameter in own if parameter.default is parameter.empty]
        optional = [parameter for parameter in own if parameter.default is not parameter.empty]
        both = [*demanded, *inspect.signature(shared).parameters.values(), *optional]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in both}
        vars(command).update(__signature__=inspect.Signature(both))
        return command

    return decorate
