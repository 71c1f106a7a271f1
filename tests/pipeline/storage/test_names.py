"""Names: distinct on any file system, reversible in URIs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.names import MAX_PART, file_part, format_uri, parse_uri
from pipeline.testing.managers import WEIRD_KEYS

KEYS = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary())


def test_weird_keys_have_distinct_safe_names() -> None:
    parts = [file_part(key) for key in WEIRD_KEYS]
    assert len({part.casefold() for part in parts}) == len(parts)


@given(KEYS, KEYS)
def test_distinct_keys_have_distinct_names_whatever_the_file_system_does_to_case(
    one: str | bytes, two: str | bytes
) -> None:
    if one != two or type(one) is not type(two):
        assert file_part(one).casefold() != file_part(two).casefold()
    part = file_part(one)
    assert part == part.lower()
    assert 0 < len(part) <= MAX_PART
    assert part[0] != "."
    assert not set(part) & set('/\\\0:*?"<>| \n')


@pytest.mark.parametrize(
    ("key", "part"), [("ema", "ema"), ("portfolio_0042", "portfolio_0042"), ("A", "%41"), ("", "%empty")]
)
def test_plain_names_stay_readable(key: str, part: str) -> None:
    assert file_part(key) == part


@given(st.text(st.characters(exclude_categories=["Cs"])), KEYS)
def test_a_uri_gives_back_its_container_and_key(name: str, key: str | bytes) -> None:
    assert parse_uri(format_uri("memory", name, key)) == ("memory", name, key)


@pytest.mark.parametrize("uri", ["", "memory:", "memory://x", "memory://a/b/c", "memory://a/b?text"])
def test_what_is_no_uri_of_ours_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_uri(uri)
