"""Following chains without a database: what an index or a validator would not let happen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.audit.chains import ChainWalk
from accounting.audit.findings import FINDINGS_SHOWN_MAX, Finding, FindingKind, TrailReport
from accounting.ids import StoredId
from trails import stored_chain

ENTITY = StoredId("b" * 24)


def walk(entries: list[dict[str, Any]]) -> TrailReport:
    report = TrailReport()
    chains = ChainWalk(report)
    for entry in entries:
        chains.take(entry)
    chains.finish()
    return report


def test_a_sound_chain_has_no_findings() -> None:
    report = walk(stored_chain(4))

    assert (report.entries, report.chains, report.is_sound) == (4, 1, True)


def test_a_number_that_is_there_twice_is_named() -> None:
    one, two, three = stored_chain(3)

    report = walk([one, two, two | {"_id": StoredId("c" * 24)}, three])

    assert [(finding.kind, finding.entry_id) for finding in report.findings] == [
        (FindingKind.EDITED, "c" * 24),
        (FindingKind.DUPLICATE, "c" * 24),
    ]


@pytest.mark.parametrize("seq", [0, -5])
def test_a_number_below_one_is_named_and_the_rest_still_followed(seq: int) -> None:
    one, two = stored_chain(2)

    report = walk([one | {"seq": seq}, one, two])

    assert [finding.kind for finding in report.findings] == [
        FindingKind.EDITED,
        FindingKind.DUPLICATE,
    ]


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
_fields = st.sampled_from(sorted(stored_chain(1)[0]))


@given(name=_fields, value=_anything, position=st.integers(0, 2))
def test_whatever_stands_in_a_field_is_reported_and_never_a_crash(
    name: str, value: object, position: int
) -> None:
    entries = stored_chain(3)
    is_same = type(value) is type(entries[position][name]) and value == entries[position][name]
    entries[position] = entries[position] | {name: value}

    report = walk(entries)

    assert report.is_sound == is_same


@given(name=_fields, position=st.integers(0, 2))
def test_a_missing_field_is_reported(name: str, position: int) -> None:
    entries = stored_chain(3)
    del entries[position][name]

    assert not walk(entries).is_sound


def test_findings_are_counted_beyond_those_kept() -> None:
    report = TrailReport()
    for seq in range(FINDINGS_SHOWN_MAX + 5):
        report.add(Finding(FindingKind.EDITED, "An entry was edited.", seq=seq))

    assert len(report.findings) == FINDINGS_SHOWN_MAX
    assert report.to_json()["findingCount"] == FINDINGS_SHOWN_MAX + 5
