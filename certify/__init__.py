"""Certificates of machine unlearning: statements, digests, bundles and their verifier."""
