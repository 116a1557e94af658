"""What a network must beat, beside scikit-learn's models with the same features and the same objective."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from elman.baselines import BagOfWords, C, majority

WORDS = [
    "good",
    "bad",
    "fine",
    "awful",
    ",",
    "not",
    "very",
    "film",
    "plot",
    "so",
    "it",
    "is",
    "and",
    "the",
    "a",
]


def texts(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 9))) for _ in range(count)]


def answers(drawn: list[str]) -> np.ndarray:
    return np.array([("good" in text) + 2 * ("bad" in text) * ("not" not in text) for text in drawn]) % 3


def vectors(*parts: list[str]) -> list:
    features = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", lowercase=True
    )
    return [features.fit_transform(parts[0]), *(features.transform(part) for part in parts[1:])]


def test_one_label_is_scikit_learns_logistic_regression() -> None:
    train, test = texts(200, 0), [*texts(50, 1), "", "unknown words"]
    truth = answers(train)
    ours = BagOfWords.fit(train, truth, 3, steps=500).probabilities(test)
    x, x_test = vectors(train, test)
    theirs = LogisticRegression(C=C, max_iter=2000, tol=1e-9).fit(x, truth).predict_proba(x_test)
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    assert (ours[:50].argmax(axis=1) == answers(test[:50])).mean() > 0.8


def test_several_labels_are_one_regression_each() -> None:
    train, test = texts(150, 2), texts(40, 3)
    truth = np.array([["good" in text, "bad" in text] for text in train]).astype(int)
    ours = BagOfWords.fit(train, truth, 2, steps=500).probabilities(test)
    x, x_test = vectors(train, test)
    for k in range(2):
        model = LogisticRegression(C=C, max_iter=2000, tol=1e-9).fit(x, truth[:, k])
        np.testing.assert_allclose(ours[:, k], model.predict_proba(x_test)[:, 1], atol=2e-4)


@pytest.mark.parametrize("several", [False, True])
def test_majority(several: bool) -> None:
    truth = np.array([[1, 0], [1, 1], [1, 0], [0, 0]]) if several else np.array([0, 0, 0, 1])
    assert majority(truth, 2).tolist() == [[0.75, 0.25]] * 2


def test_the_most_frequent_tag() -> None:
    from elman.baselines import FrequentTag

    rule = FrequentTag.fit([["a", "b", "a"], ["a", "c"]], [np.array([0, 1, 0]), np.array([2, 1])], 3)
    assert rule(["a", "b", "new"]).tolist() == [0, 1, 1]


def test_the_linear_model_of_words_is_scikit_learns() -> None:
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    from elman.baselines import TagModel, word_features

    draw = np.random.default_rng(0)
    sentences = [
        [str(word) for word in draw.choice(["ab", "Ab", "cd", "c1", "x"], size=4)] for _ in range(30)
    ]
    truth = [
        np.array([len(set(word)) % 3 if word != "x" else draw.integers(3) for word in row])
        for row in sentences
    ]
    model = TagModel.fit(sentences, truth, 3, steps=300)
    rows = [features for words in sentences for features in word_features(words)]
    known = [{name: 1.0 for name in features if name in model.numbers} for features in rows]
    x = DictVectorizer().fit_transform(known)
    judge = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(x, np.concatenate(truth))
    found = np.exp(np.concatenate(model.log_probabilities(sentences)))
    np.testing.assert_allclose(found, judge.predict_proba(x), atol=2e-3)
    assert all(len(set(features)) == len(features) for features in rows)
