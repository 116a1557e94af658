"""Classes of whole series: cases read, divided, scaled and put into numbers; the classifier; 1-NN beside it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.config import UserError
from elman.data.account import Account
from elman.data.bucketing import Buckets, cuts
from elman.data.labels import Labels
from elman.data.series import Case, read_cases
from elman.data.series.encoded import CaseCodec, columns_of, numbers_of
from elman.data.splits import shared, split
from elman.page import Section
from elman.tasks.base import Answer, Baseline, Batches
from elman.tasks.divided import Divided
from elman.tasks.series import sections
from elman.tasks.series.branches import Branch
from elman.tasks.series.settings import Config, SeriesSettings
from elman.training.parallel import each
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.nn import SequenceClassifier

__all__ = ["CaseCodec", "CasePart", "Classes", "class_answer", "probabilities", "with_faults"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Padded size of a batch without gradients, and the most cases in it.
BUDGET, MOST = 1 << 15, 256


class CasePart(NamedTuple):
    """The cases of a part: numbers `(T, W)` of each, and the truth `(N,)`."""

    name: str
    cases: list[Case]
    numbers: list[npt.NDArray[np.float32]]
    truth: Ints
    account: Account | None = None


@dataclass(frozen=True)
class Cases(Divided[CaseCodec, CasePart]):
    """The data of a training."""

    def items(self, part: CasePart) -> Sequence[Any]:
        """Its cases."""
        return part.cases

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all values and labels in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for case in part.cases:
                digest.update(f"{name}\0{case.label}\0{case.values.shape}".encode("utf-8", "surrogatepass"))
                digest.update(np.nan_to_num(case.values, nan=-1e300).tobytes())
        return {"read": self.read, "cases": self.sizes, "sha256": digest.hexdigest()}

    def lines(self) -> list[str]:
        """The accounts, the sizes, the classes."""
        lines = self.account_lines()
        lines.append(self.sizes_line("cases"))
        names = self.codec.labels.names
        lines.append(f"one of {len(names)} classes: {', '.join(names[:12])}{', ...' * (len(names) > 12)}")
        return lines


# Data


def prepare(config: Config, codec: CaseCodec | None) -> Cases:
    """Read, divide, scale. The codec is learnt from the training cases unless it is given."""
    data = config.data
    if not data.train:
        raise UserError("nothing to learn from: give cases by --data (.ts, .arff, or a table)")
    accounts: dict[str, Account] = {}
    read: dict[str, list[Case]] = {}
    for name, paths in (("train", data.train), ("valid", data.valid), ("test", data.test)):
        if paths:
            read[name] = _read(paths, data, accounts.setdefault(name, Account(unit="cases")))
    read, drawn = _divide(read, data)
    labels = codec.labels if codec else _learn_labels(read["train"])
    for name, cases in read.items():
        account = accounts.get(name, accounts["train"])
        read[name] = _known(cases, labels, account)
        if name != "train":
            again = shared([_key(case) for case in read["train"]], [_key(case) for case in read[name]])
            if again:
                account.remark(
                    f"{name} has a case of the training data", [read[name][i].place for i in again]
                )
    for account in accounts.values():
        account.judge(data.on_bad)
    codec = codec or _learn(read["train"], labels, config)
    parts = {
        name: _part(name, cases, codec, data, accounts.get(name, accounts["train"]))
        for name, cases in read.items()
        if cases
    }
    return Cases(codec, parts, accounts, drawn)


def _read(paths: Sequence[str], data: SeriesSettings, account: Account) -> list[Case]:
    return read_cases(paths, account, data.chosen, given=data.given, encoding=data.encoding)


def _known(cases: Iterable[Case], labels: Labels, account: Account) -> list[Case]:
    found = []
    for case in cases:
        if case.label in labels.names:
            found.append(case)
        else:
            account.fault("unknown label", case.place)
    return found


def _key(case: Case) -> str:
    return hashlib.blake2b(case.values.tobytes(), digest_size=16).hexdigest()


def _divide(
    read: dict[str, list[Case]], data: SeriesSettings
) -> tuple[dict[str, list[Case]], tuple[str, ...]]:
    """Shares of the cases, stratified by class, where parts are not given; equal cases stay on one side."""
    valid = 0.0 if "valid" in read else data.valid_share
    test = 0.0 if "valid" in read or "test" in read else data.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if not drawn:
        return read, ()
    cases = read["train"]
    found = split(
        [_key(case) for case in cases],
        [case.label for case in cases],
        valid=valid,
        test=test,
        seed=data.split_seed,
    )
    parts = {
        name: [cases[i] for i in own] for name, own in zip(("train", "valid", "test"), found, strict=True)
    }
    return {name: parts[name] or read.get(name, []) for name in parts if parts[name] or name in read}, drawn


def _learn_labels(cases: Sequence[Case]) -> Labels:
    counts = Counter(case.label for case in cases)
    if len(counts) < 2:
        raise UserError(
            f"the training data have one class only ({', '.join(counts) or 'none'}); two or more are needed"
        )

    def order(name: str) -> tuple[int, float, str]:
        try:
            return 0, float(name), name
        except ValueError:
            return 1, 0.0, name

    return Labels(tuple(sorted(counts, key=order)), several=False)


def _learn(train: Sequence[Case], labels: Labels, config: Config) -> CaseCodec:
    missing = any(bool(np.isnan(case.values).any()) for case in train)
    cell, gaps = config.model.settled(missing=missing)
    if gaps == "decay" and config.model.layers > 1:
        if config.model.cell == "gru-d":
            raise UserError(
                "--cell gru-d: of whole series it is one layer; leave --layers out, or take --cell gru"
            )
        cell, gaps = "gru", "mask"
    whole = np.concatenate([columns_of(case, config.data) for case in train])
    known = ~np.isnan(whole)
    n = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, whole, 0.0).sum(axis=0) / n
    deviation = np.sqrt(np.where(known, (whole - mean) ** 2, 0.0).sum(axis=0) / n)
    if config.data.each == "none":
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    deviation = np.where(deviation > 1e-8 * (1 + np.abs(mean)), deviation, 1.0)
    features = whole.shape[1] * config.data.frames
    width = features * (3 if gaps in {"decay", "mask"} else 1)
    return CaseCodec(labels, mean, deviation, missing, gaps, cell, features, width, config.data.label_column)


def _part(name: str, cases: list[Case], codec: CaseCodec, data: SeriesSettings, account: Account) -> CasePart:
    numbers = [numbers_of(case, codec, data) for case in cases]
    return CasePart(name, cases, numbers, codec.labels.encode([[case.label] for case in cases]), account)


# Model


class CaseBatch(NamedTuple):
    """B cases: `x` `(T, B, W)` with zeros behind each end, `lengths` `(B,)`, truth `(B,)`."""

    x: npt.NDArray[np.float32]
    lengths: Ints
    truth: Ints

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    def pick(self, rows: npt.NDArray[np.int64]) -> CaseBatch:
        """Some of the cases."""
        longest = int(self.lengths[rows].max())
        return CaseBatch(self.x[:longest, rows], self.lengths[rows], self.truth[rows])


def batch_of(numbers: Sequence[npt.NDArray[np.float32]], truth: Ints) -> CaseBatch:
    """Cases side by side."""
    lengths = np.array([len(rows) for rows in numbers], dtype=np.int64)
    x = np.zeros((int(lengths.max()), len(numbers), numbers[0].shape[1]), dtype=np.float32)
    for place, rows in enumerate(numbers):
        x[: len(rows), place] = rows
    return CaseBatch(x, lengths, truth)


def build_classifier(config: Config, codec: CaseCodec) -> SequenceClassifier:
    """The network."""
    from elman.nn import Features, GRUDCell, Recurrent, SequenceClassifier

    model = config.model
    inputs = Features(codec.width)
    if codec.gaps != "decay":
        return model.classifier(codec.cell).classifier(inputs, len(codec.labels.names))
    recurrent = Recurrent(
        lambda width, hidden: GRUDCell(width // 3, hidden),
        codec.width,
        model.hidden,
        bidirectional=model.bidirectional,
    )
    return SequenceClassifier(
        inputs, recurrent, len(codec.labels.names), pooling=model.pooling, dropout=model.dropout
    )


def probabilities(model: SequenceClassifier, numbers: Sequence[npt.NDArray[np.float32]]) -> Floats:
    """p `(N, K)`."""
    import torch

    model.eval()
    lengths = np.array([len(rows) for rows in numbers], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    found = np.zeros((len(numbers), model.head.out_features))
    pieces = [order[a:b] for a, b in pairwise(cuts(lengths[order], BUDGET, MOST))]

    def of(own: Ints) -> Floats:
        batch = batch_of([numbers[i] for i in own], np.zeros(len(own), dtype=np.int64))
        x = torch.from_numpy(batch.x).to(model.head.weight.device)
        logits = model(x, torch.from_numpy(batch.lengths))
        return np.asarray(logits.double().softmax(dim=1).cpu().numpy())

    with torch.no_grad():
        for own, p in zip(pieces, each(pieces, of), strict=True):
            found[own] = p
    return found


class Classes(Branch):
    """The class of whole series."""

    items = "cases"

    def prepare(self, config: Config, codec: CaseCodec | None) -> Cases:
        """Cases, and their classes."""
        return prepare(config, codec)

    def model(self, config: Config, codec: CaseCodec) -> SequenceClassifier:
        """The classifier."""
        return build_classifier(config, codec)

    def batches(self, config: Config, prepared: Cases) -> tuple[Batches, int]:
        """Cases in another order each epoch; of all lengths mixed, as a class may have a length of its own."""
        train = prepared.parts["train"]
        lengths = [len(rows) for rows in train.numbers]
        buckets = Buckets(lengths, most=config.data.batch, seed=config.training.seed, alike=False)

        def batch(epoch: int, index: int) -> CaseBatch:
            own = buckets(epoch, index)
            found = batch_of([train.numbers[i] for i in own], train.truth[own])
            return _noisy(found, prepared.codec, config, epoch, index) if config.data.noise else found

        return batch, len(buckets)

    def loss(self, model: Any, batch: CaseBatch) -> tuple[Any, int]:
        """Cross entropy."""
        import torch
        import torch.nn.functional as F

        device = model.head.weight.device
        logits = model(torch.from_numpy(batch.x).to(device), torch.from_numpy(batch.lengths))
        return F.cross_entropy(logits, torch.from_numpy(batch.truth).to(device), reduction="sum"), len(
            batch.truth
        )

    def measure(
        self, model: Any, codec: CaseCodec, part: CasePart, config: Config, *, interval: bool
    ) -> Score:
        """Accuracy, macro F1."""
        return score_of(codec.labels, part.truth, probabilities(model, part.numbers), interval=interval)

    def baselines(self, config: Config, prepared: Cases) -> Iterator[Baseline]:
        """The commonest class, and the nearest training case."""
        train = prepared.parts["train"]
        K = len(prepared.codec.labels.names)
        usual = np.bincount(train.truth, minlength=K) / len(train.truth)
        length = round(float(np.mean([len(rows) for rows in train.numbers])))
        width = prepared.codec.features
        known = np.stack([_stretched(rows[:, :width], length) for rows in train.numbers])
        for part in prepared.parts.values():
            if part.name == "train":
                continue
            yield Baseline(
                "majority",
                part.name,
                score_of(prepared.codec.labels, part.truth, np.tile(usual, (len(part.truth), 1))),
            )
            nearest = np.array(
                [_nearest(_stretched(rows[:, :width], length), known) for rows in part.numbers]
            )
            p = np.eye(K)[train.truth[nearest]]
            yield Baseline("1-NN, Euclidean", part.name, score_of(prepared.codec.labels, part.truth, p))

    def read(self, paths: tuple[str, ...], config: Config, codec: CaseCodec) -> CasePart:
        """Other cases."""
        account = Account(unit="cases")
        cases = _known(_read(paths, config.data, account), codec.labels, account)
        account.judge(config.data.on_bad)
        if not cases:
            raise UserError(f"{', '.join(paths)}: no case with a class that the model knows")
        return _part("other", cases, codec, config.data, account)

    def sections(self, trained: Any, part: CasePart) -> Iterator[Section]:
        """Each class, confusion, and what was taken for something else."""
        p = probabilities(trained.model, part.numbers)
        return sections.class_sections(trained.codec.labels, part.truth, p, part.cases)


def _noisy(batch: CaseBatch, codec: CaseCodec, config: Config, epoch: int, index: int) -> CaseBatch:
    """The batch with noise on the values that were seen; drawn by the seed, the epoch and the index."""
    generator = np.random.default_rng([config.training.seed, epoch, index])
    x = batch.x.copy()
    values = x[..., : codec.features]
    noise = config.data.noise * generator.standard_normal(values.shape, dtype=np.float32)
    seen = x[..., codec.features : 2 * codec.features] if codec.width > codec.features else 1.0
    x[..., : codec.features] = values + noise * seen
    return batch._replace(x=x)


def _stretched(rows: npt.NDArray[np.float32], length: int) -> Floats:
    """A case at another length, by the line through its steps."""
    if len(rows) == length:
        return rows.astype(np.float64)
    at = np.linspace(0, len(rows) - 1, length)
    return np.stack([np.interp(at, np.arange(len(rows)), column) for column in rows.T], axis=1)


def _nearest(case: Floats, known: Floats) -> int:
    return int(((known - case) ** 2).sum(axis=(1, 2)).argmin())


def score_of(labels: Labels, truth: Ints, p: Floats, *, interval: bool = False) -> Score:
    """Accuracy with its 95 % interval over cases drawn anew, and others."""
    K = len(labels.names)
    answers = labels.decide(p)
    figures: dict[str, Any] = {
        "macro_F1": metrics.macro_f1(truth, answers, K),
        "loss": metrics.log_loss(truth, p),
        "cases": len(truth),
    }
    if interval:
        found = metrics.per_class(truth, answers, K)
        figures["labels"] = {
            name: {"precision": float(a), "recall": float(b), "f1": float(c), "cases": int(n)}
            for name, a, b, c, n in zip(labels.names, *found, strict=True)
        }
    limits = metrics.bootstrap(metrics.accuracy, (truth, answers)) if interval else None
    return Score("accuracy", metrics.accuracy(truth, answers), higher=True, figures=figures, interval=limits)


# Predict


def class_answer(labels: Labels, p: Floats) -> Answer:
    """A line for a person, an object for a program."""
    order = np.argsort(-p, kind="stable")[:3]
    first, *others = [f"{labels.names[k]} {p[k]:.3f}" for k in order]
    data = {name: round(float(value), 6) for name, value in zip(labels.names, p, strict=True)}
    line = f"{first} ({', '.join(others)})" if others else first
    return Answer(line, {"label": labels.names[int(order[0])], "probabilities": data})


def with_faults(path: str, data: SeriesSettings, codec: CaseCodec) -> list[tuple[Case | None, str, str]]:
    """The cases of a file in their order, each with its place; what cannot be read as well, with the reason."""
    account = Account(unit="cases")
    own = replace(data, label_column=codec.label)
    cases = read_cases((path,), account, own.chosen, given=data.given, encoding=data.encoding, labelled=False)
    found = [(case.place.line, case, str(case.place), "") for case in cases]
    bad = [
        (place.line, None, str(place), reason)
        for reason, places in account.faults.items()
        for place in places
    ]
    return [entry[1:] for entry in sorted([*found, *bad], key=lambda entry: entry[0])]
