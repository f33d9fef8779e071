"""Unlearning methods, one module each."""
