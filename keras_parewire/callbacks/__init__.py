"""Callbacks that permute weights during training."""

from keras_parewire.callbacks.lookahead_permutation import LookaheadPermutation

__all__ = ["LookaheadPermutation"]
