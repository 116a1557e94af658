"""Labels as numbers: one of several classes, or any number of labels with a threshold each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.account import Account, Place
from elman.data.labelled import Example
from elman.errors import UserError

__all__ = [
    "Labels",
    "check_labels",
    "learn_labels",
    "name_labels",
    "remark_on_labels",
    "rename",
    "steady_thresholds",
    "tune_thresholds",
]

Floats = npt.NDArray[np.floating[Any]]


class Labels(NamedTuple):
    """The labels in the order of their numbers; several: whether an item may have any number of them."""

    names: tuple[str, ...]
    several: bool

    def encode(self, rows: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
        """Class numbers `(N,)`; with several labels zeros and ones `(N, K)`. Raises KeyError for an unknown label."""
        numbers = {name: number for number, name in enumerate(self.names)}
        if not self.several:
            return np.array([numbers[row[0]] for row in rows], dtype=np.int64)
        marks = np.zeros((len(rows), len(self.names)), dtype=np.int64)
        for at, row in enumerate(rows):
            marks[at, [numbers[name] for name in row]] = 1
        return marks

    def decide(self, probabilities: Floats, thresholds: Floats | None = None) -> npt.NDArray[np.int64]:
        """The answers for probabilities `(N, K)`: the likeliest class, or each label at or above its threshold."""
        if not self.several:
            return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
        return np.asarray(probabilities >= (0.5 if thresholds is None else thresholds), dtype=np.int64)


def _order(name: str) -> tuple[int, float, str]:
    """Numbers by their size, before words by their letters."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def learn_labels(examples: Sequence[Example], kind: str = "auto", *, known: Sequence[str] = ()) -> Labels:
    """The labels of the training examples. kind: "one", "several", or "auto": several where some item has not just one.

    Raises UserError for fewer than two labels, and for a label of one item alone.
    """
    several = kind == "several" or (kind == "auto" and any(len(example.labels) != 1 for example in examples))
    counts = Counter(label for example in examples for label in example.labels)
    listed = [name for name in known if name in counts]
    # A list that lacks some of them is one of other things; it must not cost the rest of the labels.
    names = listed if len(listed) == len(counts) else sorted(counts, key=_order)
    if len(names) < 2:
        which = f"only one: {names[0]!r}" if names else "none"
        raise UserError(
            f"the training data have too few labels ({which}); two or more are needed to tell apart"
        )
    alone = [name for name in names if counts[name] == 1]
    if alone:
        where = next(example.place for example in examples if alone[0] in example.labels)
        rest = f", and so do {len(alone) - 1} others" if len(alone) > 1 else ""
        raise UserError(
            f"the label {alone[0]!r} has one training item only ({where}){rest}: give it more, drop it by --rename "
            f"{alone[0]!r}=, or check that the labels were found in the right column"
        )
    return Labels(tuple(names), several)


def check_labels(examples: Iterable[Example], labels: Labels, account: Account) -> list[Example]:
    """The examples that fit: an unknown label, and more or fewer than one where one is asked for, are faults."""
    known, kept = set(labels.names), []
    for example in examples:
        if not known.issuperset(example.labels):
            account.fault("unknown label", example.place)
        elif not labels.several and len(example.labels) != 1:
            account.fault("not just one label", example.place)
        else:
            kept.append(example)
    return kept


def remark_on_labels(examples: Sequence[Example], account: Account) -> None:
    """Report labels that differ by case or spaces only, and texts that stand under different labels."""
    first: dict[str, Place] = {}
    spellings: dict[str, list[str]] = defaultdict(list)
    answers: dict[str, tuple[str, ...]] = {}
    for example in examples:
        for label in example.labels:
            if label not in first:
                first[label] = example.place
                spellings["".join(label.split()).casefold()].append(label)
        before = answers.setdefault(example.text, tuple(sorted(example.labels)))
        if before != tuple(sorted(example.labels)):
            account.remark("one text under different labels", example.place)
    for alike in spellings.values():
        if len(alike) > 1:
            words = " and ".join(map(repr, alike))
            account.remark(
                f"labels that differ by case or spaces only: {words}", [first[word] for word in alike]
            )


def rename(
    examples: Iterable[Example], words: Mapping[str, str], account: Account, *, all_met: bool = True
) -> list[Example]:
    """Other names for labels; an item whose labels all become empty is set aside.

    all_met: raise UserError for a word that no label has.
    """
    kept: list[Example] = []
    met: set[str] = set()
    for example in examples:
        met.update(example.labels)
        labels = tuple(dict.fromkeys(words.get(label, label) for label in example.labels))
        if any(labels) or not example.labels:
            kept.append(example._replace(labels=tuple(filter(None, labels))))
        else:
            account.set_aside(f"label {' '.join(example.labels)!r} by --rename", example.place)
    unmet = [word for word in words if word not in met]
    if all_met and unmet and met:
        raise UserError(f"--rename {unmet[0]}=...: no such label; they are {', '.join(sorted(met)[:20])}")
    return kept


def name_labels(examples: Sequence[Example], names: Sequence[str]) -> list[Example] | None:
    """Names for labels that are numbers, from 0, or from 1 where no label is 0; None where they are no such numbers."""
    written = {label for example in examples for label in example.labels}
    if not written or not all(label.isdecimal() for label in written):
        return None
    numbers = {int(label) for label in written}
    base = 1 if 0 not in numbers and max(numbers) == len(names) else 0
    if max(numbers) - base >= len(names):
        return None
    return [
        example._replace(labels=tuple(names[int(label) - base] for label in example.labels))
        for example in examples
    ]


def tune_thresholds(probabilities: Floats, truth: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """For each label the threshold with the highest F1 on these items, half-way between two probabilities.

    probabilities, truth: `(N, K)`; the answer `(K,)`. A label that no item has keeps .5. Exact: every cut is tried.
    F1 = 2 TP / (predicted + actual).
    """
    thresholds = np.full(probabilities.shape[1], 0.5)
    for k in range(probabilities.shape[1]):
        order = np.argsort(-probabilities[:, k], kind="stable")
        p, hits = probabilities[order, k].astype(float), truth[order, k].cumsum()
        if not len(hits) or hits[-1] == 0:
            continue
        f1 = 2 * hits / (np.arange(1, len(p) + 1) + hits[-1])
        # A cut between equal probabilities cannot be made.
        f1[:-1][p[:-1] == p[1:]] = -1
        at = int(f1.argmax())
        below = p[at + 1] if at + 1 < len(p) else 0.0
        thresholds[k] = (p[at] + below) / 2
    return thresholds


def steady_thresholds(
    probabilities: Floats, truth: npt.NDArray[np.integer[Any]], *, prior: float = 50.0
) -> npt.NDArray[np.float64]:
    """The tuned thresholds, drawn toward a common one the more, the fewer items of these have the label.

        logit s_k = (n_k logit t_k + prior logit c) / (n_k + prior)

    t_k: `tune_thresholds`; c: that of them with the highest macro F1 where all labels share it; n_k: items with label
    k. The threshold of a label with a dozen items is mostly chance, and costs more on new items than it gains here.
    """
    own = tune_thresholds(probabilities, truth)
    counts = truth.sum(axis=0)

    def gain(cut: float) -> float:
        answers = probabilities >= cut
        met = np.where(answers, truth, 0).sum(axis=0)
        return float((2 * met / np.maximum(answers.sum(axis=0) + counts, 1)).sum())

    shared = max(own, key=gain)
    weight = counts / (counts + prior) if prior else np.ones(len(own))
    odds = weight * _log_odds(own) + (1 - weight) * _log_odds(np.asarray(shared))
    return np.asarray(1 / (1 + np.exp(-odds)))


def _log_odds(p: Floats) -> Floats:
    """log(p / (1 - p)), finite."""
    tiny = np.finfo(np.float64).eps
    held = np.clip(p, tiny, 1 - tiny)
    return np.asarray(np.log(held / (1 - held)))
