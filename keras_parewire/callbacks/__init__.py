"""Callbacks that permute weights during training."""
