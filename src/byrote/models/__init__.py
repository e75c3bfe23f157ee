"""Reference networks, and the user's own."""

from byrote.models.build import build
from byrote.models.catalogue import MODELS, CatalogueEntry, Shape, cnn, linear, mlp, named_model
from byrote.models.norms import with_norms_of
from byrote.records import custom

__all__ = [
    "MODELS",
    "CatalogueEntry",
    "Shape",
    "build",
    "cnn",
    "custom",
    "linear",
    "mlp",
    "named_model",
    "with_norms_of",
]
