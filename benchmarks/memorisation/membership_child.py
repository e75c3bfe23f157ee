"""One package's membership attacks on given target networks, in a process of its own: run by whichever Python has it.

    PYTHON membership_child.py PACKAGE DATA.npz SCORES.npz SEED NUM_REFERENCES...

DATA has the candidates x and y, for each target whom it was trained on and its probabilities, and the recipe. SCORES
has for each attack and number of references all scores, who was a member, and CPU seconds of one audit, shadow models
included. Imports nothing of this repository.
"""

import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import nn
from torch.nn import functional

FEW_TARGETS = 2
"""How many targets ART's attack network is trained for: it costs more than all others of its attacks."""


class Network(ClassifierMixin, BaseEstimator):
    """The user's network and recipe, as an estimator of scikit-learn's kind; or a network whose answers are known."""

    def __init__(
        self,
        *,
        width: int = 1,
        depth: int = 1,
        lr: float = 0.1,
        momentum: float = 0.0,
        batch_size: int = 1,
        epochs: int = 1,
        num_classes: int = 2,
        random_state: int | None = None,
    ) -> None:
        """Take the recipe; nothing is trained yet."""
        self.width, self.depth, self.lr, self.momentum = width, depth, lr, momentum
        self.batch_size, self.epochs, self.num_classes, self.random_state = (
            batch_size,
            epochs,
            num_classes,
            random_state,
        )

    def answering(self, x: np.ndarray, probabilities: np.ndarray) -> "Network":
        """Be a network that was trained elsewhere and answered this."""
        self.classes_ = np.arange(self.num_classes)
        self.answers_ = {row.tobytes(): answer for row, answer in zip(x, probabilities, strict=True)}
        return self

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Network":
        """Train by a plain loop, tensors in memory."""
        generator = torch.Generator().manual_seed(self.random_state or 0)
        torch.default_generator.manual_seed(self.random_state or 0)
        widths = [x.shape[1], *[self.width] * self.depth]
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.network_ = nn.Sequential(*hidden, nn.Linear(self.width, self.num_classes))
        self.classes_ = np.arange(self.num_classes)
        optimiser = torch.optim.SGD(self.network_.parameters(), lr=self.lr, momentum=self.momentum)
        inputs, targets = torch.as_tensor(x), torch.as_tensor(y)
        for _ in range(self.epochs):
            for batch in torch.randperm(len(x), generator=generator).split(self.batch_size):
                optimiser.zero_grad()
                functional.cross_entropy(self.network_(inputs[batch]), targets[batch]).backward()
                optimiser.step()
        return self

    @torch.no_grad()
    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Softmax of the logits, in double precision."""
        if hasattr(self, "answers_"):
            return np.stack([self.answers_[row.tobytes()] for row in x])
        return self.network_(torch.as_tensor(x)).double().softmax(1).numpy()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The likeliest class."""
        return self.predict_proba(x).argmax(1)


class Data(NamedTuple):
    """What every attack is given."""

    x: np.ndarray
    y: np.ndarray
    inclusion: np.ndarray
    probabilities: np.ndarray
    recipe: dict[str, Any]
    num_slow: int
    """Targets for attacks that train shadow models."""

    def network(self) -> Network:
        """By the recipe, not trained."""
        return Network(**self.recipe)

    def target(self, run: int) -> Network:
        """One of the networks that are attacked."""
        return self.network().answering(self.x, self.probabilities[run])


class Found(NamedTuple):
    """What one attack says of one target."""

    attack: str
    num_references: int
    score: np.ndarray
    member: np.ndarray
    cpu_seconds: float


def sacroml(data: Data, seed: int, references: list[int]) -> Iterator[Found]:
    """LiRA as its class trains and scores it; more shadow models are added to those there are."""
    modes = {
        "sacroml LiRA, online, fixed variance": ("online-carlini", True),
        "sacroml LiRA, online, each example's variance": ("online-carlini", False),
        "sacroml LiRA, offline": ("offline", False),
    }
    for run in range(data.num_slow):
        with tempfile.TemporaryDirectory() as folder:
            training = 0.0
            for number in references:
                took: dict[str, float] = {}
                results: dict[str, Any] = {}
                for name, (mode, fixed) in modes.items():
                    began = time.process_time()
                    results[name] = _lira(_target(data, run), folder, number=number, mode=mode, fixed=fixed)
                    took[name] = time.process_time() - began
                first, second, *_ = modes
                training += max(0.0, took[first] - took[second])
                took[first] = min(took[first], took[second])
                for name, result in results.items():
                    score = np.array(result["member_prob"])
                    yield Found(name, number, score, np.array(result["member"]) == 1, training + took[name])


def _lira(target: object, folder: str, *, number: int, mode: str, fixed: bool) -> Any:
    attack_of = importlib.import_module("sacroml.attacks.likelihood_attack").LIRAAttack
    attack = attack_of(
        output_dir=folder,
        write_report=False,
        n_shadow_models=number,
        mode=mode,
        fix_variance=fixed,
        report_individual=True,
    )
    attack.attack(target)
    return attack.result


def _target(data: Data, run: int) -> Any:
    member = data.inclusion[run]
    return importlib.import_module("sacroml.attacks.target").Target(
        model=data.target(run),
        X_train=data.x[member],
        y_train=data.y[member],
        X_test=data.x[~member],
        y_test=data.y[~member],
    )


def sacroml_worst_case(data: Data, seed: int, references: list[int]) -> Iterator[Found]:
    """Its forest on sorted probabilities, told who four fifths of the members are."""
    attack_of = importlib.import_module("sacroml.attacks.worst_case_attack").WorstCaseAttack
    for run in range(len(data.inclusion)):
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            attack = attack_of(
                output_dir=folder,
                write_report=False,
                n_reps=1,
                n_dummy_reps=0,
                reproduce_split=seed * len(data.inclusion) + run,
                report_individual=True,
            )
            attack.attack(_target(data, run))
        found = attack.attack_metrics[0]["individual"]
        spent = time.process_time() - began
        member = np.array(found["member"]) == 1
        yield Found("sacroml worst case", 0, np.array(found["member_prob"]), member, spent)


def art(data: Data, seed: int, references: list[int]) -> Iterator[Found]:
    """Black-box attacks told who half of the members and of the others are, judged on the other half; and its rule."""
    attacks = importlib.import_module("art.attacks.inference.membership_inference")
    classifier_of = importlib.import_module("art.estimators.classification").BlackBoxClassifier
    for run, member in enumerate(data.inclusion):
        rng = np.random.default_rng([seed, run])
        told = rng.random(len(member)) < 0.5
        target = data.target(run)
        classifier = classifier_of(
            target.predict_proba, input_shape=data.x.shape[1:], nb_classes=data.probabilities.shape[2]
        )
        kinds = {"rf": "ART black box, random forest", "nn": "ART black box, network"}
        for kind, name in kinds.items():
            if kind == "nn" and run >= FEW_TARGETS:
                continue
            began = time.process_time()
            attack = attacks.MembershipInferenceBlackBox(classifier, attack_model_type=kind)
            known, others = told & member, told & ~member
            attack.fit(data.x[known], data.y[known], data.x[others], data.y[others])
            score = np.asarray(attack.infer(data.x[~told], data.y[~told], probabilities=True)).reshape(
                (~told).sum(), -1
            )
            yield Found(name, 0, score[:, -1], member[~told], time.process_time() - began)
        began = time.process_time()
        rule = attacks.MembershipInferenceBlackBoxRuleBased(classifier)
        score = np.asarray(rule.infer(data.x, data.y), dtype=float)
        yield Found("ART black box, rule", 0, score, member, time.process_time() - began)


PACKAGES: dict[str, Callable[[Data, int, list[int]], Iterator[Found]]] = {
    "sacroml": sacroml,
    "sacroml_worst_case": sacroml_worst_case,
    "art": art,
}


def main(name: str, data_path: str, scores_path: str, seed: int, references: list[int]) -> None:
    """Attack every target that the package's cost allows."""
    torch.set_num_threads(1)
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002, TID251 - both packages draw from NumPy's global state
    arrays = dict(np.load(data_path))
    recipe = {key.removeprefix("recipe_"): part.item() for key, part in arrays.items() if key.startswith("recipe_")}
    candidates = (arrays[key] for key in ("x", "y", "inclusion", "probabilities"))
    data = Data(*candidates, recipe=recipe, num_slow=int(arrays["num_slow"]))
    importlib.import_module("art.attacks.inference.membership_inference" if name == "art" else "sacroml.attacks.target")
    logging.disable(logging.INFO)
    data.network().fit(data.x[:100], data.y[:100])  # what is slow the first time is not anybody's cost
    found = list(PACKAGES[name](data, seed, references))
    kept: dict[str, np.ndarray] = {}
    for attack, number in dict.fromkeys((one.attack, one.num_references) for one in found):
        mine = [one for one in found if (one.attack, one.num_references) == (attack, number)]
        key = f"{attack}|{number}"
        kept[f"{key}|score"] = np.concatenate([one.score for one in mine])
        kept[f"{key}|member"] = np.concatenate([one.member for one in mine])
        kept[f"{key}|cpu"] = np.array([one.cpu_seconds for one in mine])
    np.savez(scores_path, **kept)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    package, data_file, scores_file, root, *numbers = sys.argv[1:]
    main(package, data_file, scores_file, int(root), [int(number) for number in numbers])
