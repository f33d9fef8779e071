"""Attacks on models that are said to have forgotten, and what can honestly be said after them.

    plan -> shadows -> scores -> figures -> verdict        shadows.py, lira.py, arms.py, roc.py, intervals.py, verdict.py

An audit is a lower bound: an attack that finds nothing shows what that attack, with that many records, did not find.
This package needs torch, numpy and scipy, but for :mod:`certify.audit.verdict`, which needs nothing.
"""
