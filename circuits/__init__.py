"""Update steps: the mathematics of unlearning, apart from certificates and the log.

One module a method in :mod:`circuits.steps`. They need the ``torch`` extra; nothing here is imported by a verifier.
"""
