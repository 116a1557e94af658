"""Text cut into words the way the training sentences are."""

from hypothesis import given
from hypothesis import strategies as st

from elman.data.tokens import Tokenizer

DEFAULT = Tokenizer()


def words(text: str, how: Tokenizer = DEFAULT) -> list[str]:
    return [span.word for span in how.spans(text)]


@given(text=st.text(alphabet="ab'’-#@.!?:;)(1, é\n", max_size=30))
def test_nothing_but_white_space_is_between_words(text: str) -> None:
    at = 0
    for span in Tokenizer().spans(text):
        assert text[span.start : span.end] == span.word
        assert span.word
        assert not text[at : span.start].strip()
        at = span.end
    assert not text[at:].strip()


def test_the_defaults() -> None:
    assert words("Don't go, it's well-known (3,000.50)!") == [
        *("Do", "n't", "go", ",", "it", "'s", "well-known", "(", "3,000.50", ")", "!")
    ]
    assert words("see https://a.b/c?d=e. Or mail me@x.org :-) #now @you") == [
        *("see", "https://a.b/c?d=e", ".", "Or", "mail", "me@x.org", ":-)", "#now", "@you")
    ]


def test_what_the_training_sentences_show() -> None:
    tweets = Tokenizer.learn(
        [["@", "me", "so", "well", "-", "known", "!!!", "don't"], ["#tag", "Mr.", "No", "."]]
    )
    assert (tweets.mentions, tweets.hyphens, tweets.runs, tweets.contractions) == (False, False, True, False)
    assert tweets.abbreviations == ("Mr.",)
    assert words("@me says no. Mr. X doesn't, well-known!!", tweets) == [
        *("@", "me", "says", "no", ".", "Mr.", "X", "doesn't", ",", "well", "-", "known", "!!")
    ]
    assert Tokenizer.learn([]) == Tokenizer()
    assert Tokenizer.from_json(tweets.to_json()) == tweets


def test_the_words_of_a_sentence_are_found_again() -> None:
    sentence = [
        "Mr.",
        "Smith",
        "did",
        "n't",
        "see",
        "the",
        "well-known",
        "dog",
        "'s",
        "tail",
        ",",
        "he",
        "said",
        ".",
    ]
    learned = Tokenizer.learn([sentence])
    assert words("Mr. Smith didn't see the well-known dog's tail, he said.", learned) == sentence
