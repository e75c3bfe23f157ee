"""The scores of `byrote.Recorder` inside other people's training loops.

`byrote.integrations.lightning` and `byrote.integrations.transformers` each have a callback, and need their extra
(`pip install 'byrote[lightning]'`, `'byrote[transformers]'`); what is here needs none.
"""

from byrote.integrations.with_ids import WithIds

__all__ = ["WithIds"]
