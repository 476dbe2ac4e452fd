"""Stands in for TensorFlow where it is not installed; see helpers.py."""

raise ImportError("Only the suite of TensorFlow imports it in new processes.")
