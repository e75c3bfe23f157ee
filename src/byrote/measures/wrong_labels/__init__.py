"""Which labels are wrong, and how surely: what runs on subsets say of each label, against labels they never met."""

from byrote.measures.wrong_labels.classes import label_errors
from byrote.measures.wrong_labels.found import LabelErrors, flag_label_errors
from byrote.measures.wrong_labels.numbers import residual_errors

__all__ = ["LabelErrors", "flag_label_errors", "label_errors", "residual_errors"]
