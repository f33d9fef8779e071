"""Libraries that only some operators have: a clear error where one is missing."""

from importlib import import_module
from types import ModuleType

from certify.errors import MissingExtra


def needed(package: str, extra: str) -> ModuleType:
    """Import a module. Raises MissingExtra, which says what to install.

    >>> needed("json", "base").__name__
    'json'
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package.split(".")[0]:
            raise
        name = package.split(".")[0]
        raise MissingExtra(f"expected the package {name}: pip install 'unlearning-ledger[{extra}]'") from error
