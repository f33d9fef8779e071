"""Hooks into training code: one module a framework."""
