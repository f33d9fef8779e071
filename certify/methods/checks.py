"""What a verifier can recompute of many methods: which tensors changed, how many records a step says it used, what it was told.

Everything here raises ChainError, with the entry's index, or returns lines to print. A line on what nobody but the operator can
know begins "by the operator's word".
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from certify.digest import TensorDigest, diff
from certify.errors import ChainError
from certify.fields import Label
from certify.methods.detail import Case

MAX_TENSORS = 1024
Tensors = Annotated[list[Label], Meta(min_length=1, max_length=MAX_TENSORS)]
"""Names of tensors, in the order of their UTF-8 bytes."""


def only_changed(case: Case, tensors: Sequence[str]) -> str:
    """No tensor changed but those that the method says it works on; all of these are there, and none changed its shape."""
    there = {tensor.name: tensor for tensor in case.pre.tensors}
    if list(tensors) != sorted(set(tensors), key=str.encode):
        raise ChainError(f"entry {case.index} does not name its tensors once each, in the order of their bytes")
    if missing := [name for name in tensors if name not in there]:
        raise ChainError(f"entry {case.index} works on {missing[0]}, which the model before does not have")
    same_shapes(case)
    changed = diff(case.pre, case.post).changed
    if beyond := [name for name in changed if name not in set(tensors)]:
        raise ChainError(f"entry {case.index} changed {beyond[0]}, which is not among the tensors that it works on")
    others = len(there) - len(tensors)
    return f"{len(changed)} of the {len(tensors)} tensors that it works on changed, and none of the {others} others"


def same_shapes(case: Case) -> None:
    """The models before and after have the same tensors, of the same types and shapes."""
    before, after = ({t.name: (t.dtype, t.shape) for t in model.tensors} for model in (case.pre, case.post))
    if before != after:
        name = next(name for name in {**before, **after} if before.get(name) != after.get(name))
        raise ChainError(f"entry {case.index} is of a method that keeps every tensor's shape, {name} is another")


def tensor(case: Case, name: str) -> TensorDigest:
    """A tensor of the model before."""
    for found in case.pre.tensors:
        if found.name == name:
            return found
    raise ChainError(f"entry {case.index} works on {name}, which the model before does not have")


def records(case: Case, *, forgotten: int | None = None, retained: int | None = None) -> list[str]:
    """How many records a step says that it used are as many as were removed and retained."""
    lines: list[str] = []
    for word, used, tree in (
        ("removed", forgotten, case.certificate.removed),
        ("retained", retained, case.certificate.retained),
    ):
        if used is None:
            continue
        if tree is None:
            lines.append(f"by the operator's word, it used {used} {word} records")
        elif used != tree.count:
            raise ChainError(f"entry {case.index} used {used} records as {word} ones, {tree.count} are {word}")
        else:
            lines.append(f"it used as many records as are {word}: {used}; by the operator's word, these")
    return lines


def told(case: Case, **numbers: float | int) -> None:
    """What the detail says of the method's numbers is what the certificate says that the method was told."""
    parameters = case.certificate.method.parameters
    for name, number in numbers.items():
        if name in parameters and parameters[name] != number:
            raise ChainError(
                f"entry {case.index} was told {name} {parameters[name]}, its detail says {number:g}: expected the same"
            )


def scope(case: Case, expected: str) -> None:
    """All requests that the certificate answers are of that scope."""
    others = [request.scope for request in case.requests if request.scope != expected]
    if others:
        raise ChainError(f"entry {case.index} is by a method for the scope {expected}, a request is of {others[0]}")


def numbers(data: bytes, what: str, *, form: str, count: int) -> tuple[float, ...]:
    """``count`` finite little-endian numbers of struct's ``form`` ("d" is float64, "f" float32, "B" a byte)."""
    size = struct.calcsize(f"<{form}")
    if len(data) != size * count:
        raise ChainError(f"{what} has {len(data)} bytes, expected {size} for each of {count} numbers")
    found = struct.unpack(f"<{count}{form}", data)
    if not all(math.isfinite(number) for number in found):
        raise ChainError(f"{what} has a number that is not finite")
    return found


def figures(said: Mapping[str, float]) -> list[str]:
    """Figures that only the operator can know, one line."""
    return ["by the operator's word, " + ", ".join(f"{name} {value:.4g}" for name, value in said.items())]
