"""Update steps, their commitments and their zero-knowledge proofs. It knows nothing of certificates or the log.

:mod:`circuits.steps` has the unlearning methods (torch). ``optimum`` and ``exclusion`` are the mathematics that is proven,
``export`` and ``prover`` make proofs, ``zk_verifier`` checks them without torch; ``srs``, ``commitment`` and ``opening`` are the
KZG side, ``quantize`` the one way from floats to the circuit's integers. Needs the ``zk`` extra.
"""
