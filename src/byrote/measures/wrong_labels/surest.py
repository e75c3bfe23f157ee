"""How many labels can be wrong, by those that held-out networks are surest of."""

import numpy as np
from jaxtyping import Float, Int
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

SHARES = (0.1, 0.25, 0.5)
"""Of the examples of each predicted class, the surest; the share that says most is taken, at a level for all three."""
LEVEL = 0.025 / len(SHARES)


def most_wrong(probability: Float[np.ndarray, "example class"], targets: Int[np.ndarray, "example"]) -> float:
    """Bound the share of wrong labels by how often the surest held-out answers contradict the given ones.

    A label that is wrong by its class alone is wrong as often where the class is plain as where it is not, and there
    nothing but wrong labels contradicts an answer: of m surest ones e are contradicted, of the others at most as large
    a share ε as the Clopper-Pearson limit for e of m allows, so (e + ε·(n − m))/n of all.

    >>> sure = np.eye(2)[np.arange(2000) % 2] * 0.9 + 0.05
    >>> round(most_wrong(sure, np.arange(2000) % 2), 4)
    0.0024
    >>> round(most_wrong(sure, np.zeros(2000, int)), 2)
    0.52

    Args:
        probability: held-out networks' mean.
        targets: the given labels.

    Returns:
        The upper end of a 95 % interval, in [0, 1].

    Patrini et al. 2017, https://arxiv.org/abs/1609.03683 (perfect examples of each class); Clopper and Pearson 1934
    """
    answer, surety = probability.argmax(1), probability.max(1)
    contradicted = answer != targets
    place = np.empty(len(targets))
    for code in np.unique(answer):
        members = np.flatnonzero(answer == code)
        place[members[np.argsort(-surety[members], kind="stable")]] = np.arange(len(members)) / len(members)
    return min(_bound(contradicted, place < share) for share in SHARES)


def _bound(contradicted: np.ndarray, surest: np.ndarray) -> float:
    count, found = int(surest.sum()), int(contradicted[surest].sum())
    limit = 1.0 if found == count else float(special.betaincinv(found + 1, count - found, 1 - LEVEL))
    return (found + limit * (len(surest) - count)) / len(surest)
