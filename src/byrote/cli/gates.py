"""What a user insists on: `--fail-on leak` ends with exit status 1 when something leaks."""

from collections.abc import Sequence

from byrote.cli.console import say
from byrote.core import SpecError, did_you_mean
from byrote.records import Finding

CLAIMS = {
    "random-data": (
        "no-leak",
        "random-labels-are-fitted",
        "random-labels-test-at-chance",
        "true-labels-fit-faster",
        "random-inputs-start-faster",
        "test-error-rises-with-corruption",
    ),
    "lookup": ("beats-lookup-table", "beats-forest", "beats-kernel", "learnt-share"),
    "memorisation": ("training-examples-are-fitted",),
    "membership": ("members-cannot-be-told", "few-members-are-caught"),
    "labels": ("labels-are-right",),
    "difficulty": ("examples-differ-in-difficulty", "sensitivity-is-uneven", "random-labels-make-inputs-critical"),
    "early-phase": (
        "rate-lowers-gradient-variance",
        "rate-lowers-sharpness",
        "rate-improves-conditioning",
        "small-rate-raises-fisher",
        "small-batch-lowers-gradient-variance",
        "small-batch-lowers-sharpness",
        "small-batch-improves-conditioning",
        "peak-is-early",
        "barrier-falls",
        "early-decay-counts",
        "penalty-lowers-fisher",
        "penalty-helps-small-rate",
        "penalty-resists-flipped-labels",
        "edge-of-stability",
    ),
    "minima": (
        "sharpness-ranks-accuracy",
        "random-labels-end-sharper",
        "sam-ends-flatter",
        "sam-tests-better",
        "seeds-share-a-basin",
        "matched-seeds-share-a-basin",
    ),
    "representation": (
        "forest-gains-from-features",
        "kernel-gains-from-features",
        "training-improves-features",
        "kernel-velocity-falls",
        "baselines-fit-random-labels",
        "laplacian-fits-random-labels-faster",
        "pretraining-changes-speed",
        "rescaled-pretraining-changes-speed",
    ),
    "worth": ("memorised-examples-matter", "dropping-suspects-helps", "correcting-suspects-helps"),
}
"""Each study's claims that can be insisted on."""
ALIASES = {"leak": "no-leak"}


def check_gates(gates: Sequence[str], *, studies: Sequence[str]) -> None:
    """Refuse a gate that nobody knows, and one that could not fail because its study is not run.

    Raises:
        SpecError: with the nearest name, or the study to run.
    """
    homes = {claim: study for study, claims in CLAIMS.items() for claim in claims}
    for gate in gates:
        claim = ALIASES.get(gate, gate)
        if claim not in homes:
            known = (*ALIASES, *homes)
            raise SpecError(
                f"Unknown claim {gate!r} for --fail-on.{did_you_mean(gate, known)} Known: {', '.join(known)}."
            )
        if homes[claim] not in studies:
            raise SpecError(
                f"--fail-on {gate} could never fail here: only the study {homes[claim]} looks at it, and that is not "
                f"run. Use byrote audit, or byrote study {homes[claim]}."
            )


def gates_hold(gates: Sequence[str], *, findings: Sequence[Finding]) -> bool:
    """Say which gates failed, and which could not be judged and so do not fail; False when one failed."""
    insisted = {ALIASES.get(gate, gate) for gate in gates}
    for finding in findings:
        if finding.claim in insisted and finding.verdict != "holds":
            passed = ", which does not fail" if finding.verdict == "inconclusive" else ""
            say(f"--fail-on {finding.claim}: {finding.verdict}{passed}. {finding.statement}")
    return not any(finding.claim in insisted and finding.verdict == "does not hold" for finding in findings)
