"""The scores of `byrote.Recorder` inside other people's training loops.

`byrote.integrations.lightning` and `byrote.integrations.transformers` each have a callback, and need their extra
(`pip install 'byrote[lightning]'`, `'byrote[transformers]'`). What is here needs none.
"""

from byrote.integrations.staged import staged_scores
from byrote.integrations.with_ids import WithIds

__all__ = ["WithIds", "staged_scores"]
