"""Labels: their numbers, what is refused and reported, other names, thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.account import Account, Place
from elman.data.labelled import Example
from elman.data.labels import (
    Labels,
    check_labels,
    learn_labels,
    name_labels,
    remark_on_labels,
    rename,
    steady_thresholds,
    tune_thresholds,
)


def examples(*rows: str) -> list[Example]:
    """`text: label, label` -> examples, a line each."""
    found = []
    for line, row in enumerate(rows, 1):
        text, labels = row.split(":")
        found.append(
            Example(text, tuple(label.strip(" ") for label in labels.split(",") if label), Place("a", line))
        )
    return found


def test_one_label_and_several() -> None:
    one = learn_labels(examples("x:10", "y:9", "z:9", "w:10"))
    assert one == Labels(("9", "10"), several=False)
    assert one.encode([["10"], ["9"]]).tolist() == [1, 0]
    several = learn_labels(examples("x:b,a", "y:", "z:b", "w:a"))
    assert several == Labels(("a", "b"), several=True)
    assert several.encode([["b", "a"], [], ["b"]]).tolist() == [[1, 1], [0, 0], [0, 1]]
    assert learn_labels(examples("x:b", "y:a", "z:b", "w:a"), known=["b", "c", "a"]).names == ("b", "a")
    assert one.decide(np.array([[0.2, 0.8]])).tolist() == [1]
    assert several.decide(np.array([[0.2, 0.8]]), np.array([0.1, 0.9])).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["x:a", "y:a"], "too few labels .only one: 'a'."),
        ([], "too few labels .none."),
        (["x:a", "y:a", "z:b"], "the label 'b' has one training item only .a:3."),
    ],
)
def test_refused(rows: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        learn_labels(examples(*rows))


def test_reported() -> None:
    account = Account(read=5)
    remark_on_labels(examples("x:joy", "y:Joy", "z:no joy", "x:nojoy", "x:joy"), account)
    assert account.remarks == {
        "one text under different labels": [Place("a", 4)],
        "labels that differ by case or spaces only: 'joy' and 'Joy'": [Place("a", 1), Place("a", 2)],
        "labels that differ by case or spaces only: 'no joy' and 'nojoy'": [Place("a", 3), Place("a", 4)],
    }


def test_unknown_labels_and_more_than_one_are_faults() -> None:
    account = Account(read=4)
    kept = check_labels(examples("x:a", "y:c", "z:a,b", "w:"), Labels(("a", "b"), several=False), account)
    assert [example.text for example in kept] == ["x"]
    assert account.faults == {
        "unknown label": [Place("a", 2)],
        "not just one label": [Place("a", 3), Place("a", 4)],
    }


def test_rename_merges_and_drops() -> None:
    account = Account(read=4)
    kept = rename(
        examples("x:very good", "y:good", "z:so so", "w:"), {"very good": "good", "so so": ""}, account
    )
    assert [example.labels for example in kept] == [("good",), ("good",), ()]
    assert account.aside == {"label 'so so' by --rename": [Place("a", 3)]}
    with pytest.raises(UserError, match=r"--rename bad=.*: no such label; they are good"):
        rename(examples("x:good"), {"bad": ""}, account)


def test_numbers_get_names_from_0_or_from_1() -> None:
    named = name_labels(examples("x:0", "y:2,1"), ["a", "b", "c"])
    assert named is not None
    assert [example.labels for example in named] == [("a",), ("c", "b")]
    from_one = name_labels(examples("x:1", "y:3"), ["a", "b", "c"])
    assert from_one is not None
    assert [example.labels for example in from_one] == [("a",), ("c",)]
    assert name_labels(examples("x:1", "y:4"), ["a", "b", "c"]) is None
    assert name_labels(examples("x:a"), ["a", "b"]) is None


def f1(p: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    answers = p >= threshold
    below = answers.sum() + truth.sum()
    return float(2 * (answers & (truth > 0)).sum() / below) if below else 0.0


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
def test_thresholds_are_the_best_of_all(drawn: list) -> None:
    p, truth = np.array([value / 9 for value, _ in drawn]), np.array([int(hit) for _, hit in drawn])
    found = tune_thresholds(p[:, None], truth[:, None])[0]
    tried = [f1(p, truth, threshold) for threshold in [*np.linspace(0.01, 0.99, 99), 0.0]]
    assert f1(p, truth, found) >= max(tried) - 1e-12 or not truth.any()


def drawn_labels(rng: np.random.Generator, shares: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy probabilities of labels that so large shares of the items have."""
    truth = (rng.random((items, len(shares))) < shares).astype(int)
    odds = np.log(shares / (1 - shares)) + 2.5 * truth + rng.normal(size=truth.shape)
    return 1 / (1 + np.exp(-odds)), truth


def macro(p: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> float:
    return float(np.mean([f1(p[:, k], truth[:, k], thresholds[k]) for k in range(len(thresholds))]))


@given(st.integers(0, 2**31), st.floats(0, 1e6))
def test_steady_thresholds_lie_between_the_tuned_and_the_shared_one(seed: int, prior: float) -> None:
    p, truth = drawn_labels(np.random.default_rng(seed), np.array([0.02, 0.1, 0.4, 0.5]), 60)
    tuned = tune_thresholds(p, truth)
    shared = max(tuned, key=lambda cut: macro(p, truth, np.full(4, cut)))
    found = steady_thresholds(p, truth, prior=prior)
    assert (found >= np.minimum(tuned, shared) - 1e-9).all()
    assert (found <= np.maximum(tuned, shared) + 1e-9).all()
    np.testing.assert_allclose(steady_thresholds(p, truth, prior=0), tuned, atol=1e-9)
    np.testing.assert_allclose(steady_thresholds(p, truth, prior=1e12), shared, atol=1e-6)


def test_steady_thresholds_are_better_on_new_items_where_labels_are_rare() -> None:
    rng = np.random.default_rng(3)
    shares = np.full(20, 0.01)
    gains = []
    for _ in range(10):
        p, truth = drawn_labels(rng, shares, 1000)
        fresh = drawn_labels(rng, shares, 5000)
        gains.append(macro(*fresh, steady_thresholds(p, truth)) - macro(*fresh, tune_thresholds(p, truth)))
    assert np.mean(gains) > 0.01


@pytest.mark.parametrize("prior", [0.0, 50.0])
def test_steady_thresholds_stay_finite(prior: float) -> None:
    p, truth = np.array([[1.0, 0.0, 0.3]] * 3), np.array([[1, 0, 0]] * 3)
    found = steady_thresholds(p, truth, prior=prior)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert np.isfinite(steady_thresholds(p[:0], truth[:0], prior=prior)).all()
