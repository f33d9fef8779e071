"""Errors of the certificates. One class only where a caller would branch; messages say what was expected and what came."""


class CertifyError(Exception):
    """Base of everything this package raises on purpose."""


class DigestError(CertifyError):
    """Weights or files cannot be hashed, changed while they were, or do not match a digest."""


class DatasetError(CertifyError):
    """Records cannot be read or committed to, or a record does not match its commitment."""
