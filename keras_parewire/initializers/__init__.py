"""Initializers: those that wrap a base, and deterministic ones."""
