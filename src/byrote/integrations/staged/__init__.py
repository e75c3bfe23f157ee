"""What a boosted model says after each of its stages, which are its epochs."""

from byrote.integrations.staged.scores import staged_scores

__all__ = ["staged_scores"]
