"""Which labels are wrong, and how surely: what runs on subsets say of each label, against labels they never met."""

from byrote.measures.label_errors.classes import label_errors
from byrote.measures.label_errors.found import LabelErrors, flag_label_errors
from byrote.measures.label_errors.numbers import residual_errors

__all__ = ["LabelErrors", "flag_label_errors", "label_errors", "residual_errors"]
