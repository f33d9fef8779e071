"""OpenSSF model signing (OMS) v1.0: the files of a certified model, signed by the issuer's ECDSA P-256 key.

``model_signing verify key`` accepts it. The statement, in a sigstore bundle whose hint is SHA-256 of the key's PEM form, as that
tool looks for it::

    {"_type":"https://in-toto.io/Statement/v1","predicateType":"https://model_signing/signature/v1.0",
     "predicate":{"serialization":{"method":"files","hash_type":"sha256","allow_symlinks":false,"ignore_paths":[…]},
                  "resources":[{"name":"model.safetensors","algorithm":"sha256","digest":"…"}]},
     "subject":[{"name":"model","digest":{"sha256":"<root over the digests>"}}]}

Such a signature says that the key's holder signed these files, and nothing about forgetting. That is why only files of the very
model in the certificate are signed: by their names and digests in it, or by the tensor root of their weights.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from certify.errors import MismatchError, StatementKeyError
from certify.files import IGNORED, oms_order, oms_root_of
from certify.formats.document import Json, compact, pretty, signed
from certify.formats.sigstore import wrapped
from certify.formats.source import Source
from certify.keys import PublicKey, StatementSigner
from certify.statement import STATEMENT_TYPE

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
ALGORITHM = "ecdsa-p256"
SINGLE = "."
"""What model_signing calls the file of a model that is one file."""


def named(source: Source, files: Mapping[str, bytes]) -> bool:
    """Whether these are the files that the certificate names, all of them and no others (name -> SHA-256, raw)."""
    return {name: digest.hex() for name, digest in files.items()} == source.files


def check_model(source: Source, tensor_root: str) -> None:
    """Raise MismatchError unless these are the weights that the certificate is about."""
    certificate = source.certificate
    if tensor_root == certificate.pre.tensor_root != certificate.post.tensor_root:
        raise MismatchError("the weights given are those from before the unlearning: nothing is signed")
    if tensor_root != certificate.post.tensor_root:
        raise MismatchError(
            f"the weights given have tensor root {tensor_root}, the certificate is about {certificate.post.tensor_root}: "
            f"nothing is signed"
        )


def check_key(key: PublicKey) -> None:
    """Raise StatementKeyError for a key that model_signing does not verify."""
    if key.algorithm != ALGORITHM:
        raise StatementKeyError(
            f"the issuer's key is {key.algorithm}, expected {ALGORITHM}: OMS has no other in key mode"
        )


def signature(
    name: str, files: Mapping[str, bytes], key: StatementSigner, *, single: bool = False, ignore: Sequence[str] = ()
) -> bytes:
    """The signature file of a model: its ``files`` by name, SHA-256 raw.

    ``ignore``: paths in the folder that were left out, beside those that OMS leaves out. ``single``: the model is one file.
    """
    check_key(key.public)
    payload = compact(statement(name, files, single=single, ignore=ignore))
    hint = sha256(key.public.pem().encode()).hexdigest()
    return pretty(wrapped(signed(payload, key), hint=hint))


def statement(name: str, files: Mapping[str, bytes], *, single: bool = False, ignore: Sequence[str] = ()) -> Json:
    """What is signed."""
    ordered = sorted(files, key=oms_order)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": oms_root_of(files).hex()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": sorted({*IGNORED, *ignore}),
            },
            "resources": [
                {"name": SINGLE if single else each, "algorithm": "sha256", "digest": files[each].hex()}
                for each in ordered
            ],
        },
    }
