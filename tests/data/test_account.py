"""The account: sums, places, refusals, and the way to JSON and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.account import Account, Place, listed

places = st.lists(st.builds(Place, st.sampled_from(["a.csv", "b/c.txt"]), st.integers(0, 9)), min_size=1)
reasons = st.dictionaries(st.sampled_from(["empty text", "broken quotes", "no label"]), places)


def test_places_are_written_as_compilers_do() -> None:
    found = [Place("a.csv", 17), Place("a.csv", 93), Place("b.csv", 4), Place("b.csv")]
    assert listed(found, 9) == "a.csv:17, :93, b.csv:4, b.csv"
    assert listed(found, 2) == "a.csv:17, :93, ..."


def test_lines_by_hand() -> None:
    account = Account(read=10_000)
    for line in (17, 93, 201, 300):
        account.fault("empty text", Place("a.csv", line))
    account.set_aside("blank line", Place("a.csv", 5))
    account.remark("one text under different labels", Place("a.csv", 8))
    assert account.lines() == [
        "read 10,000 rows, used 9,995, left out 5: 4 empty text (a.csv:17, :93, :201, ...), 1 blank line (a.csv:5)",
        "one text under different labels: 1 (a.csv:8)",
    ]


@given(reasons, reasons, reasons)
def test_json_and_back_and_sums(faults: dict, aside: dict, remarks: dict) -> None:
    account = Account("files", 500, faults, aside, remarks, ["a.csv: a table"])
    assert Account.from_json(json.loads(json.dumps(account.to_json()))) == account
    left_out = sum(len(at) for table in (faults, aside) for at in table.values())
    assert account.used + left_out == account.read == 500
    both = Account("files")
    both.merge(account)
    both.merge(account)
    assert (both.read, both.bad) == (1000, 2 * account.bad)
    assert both.found == account.found


@pytest.mark.parametrize(
    ("read", "bad", "on_bad", "refused"),
    [(100, 1, "auto", False), (99, 1, "auto", True), (99, 1, "skip", False), (9999, 1, "refuse", True)],
)
def test_too_many_faults_are_refused(read: int, bad: int, on_bad: str, refused: bool) -> None:
    account = Account(read=read)
    for line in range(bad):
        account.fault("empty text", Place("a.csv", line + 1))
    if not refused:
        account.judge(on_bad)
        return
    with pytest.raises(UserError, match=r"1 of .* cannot be used: 1 empty text \(a.csv:1\)"):
        account.judge(on_bad)
