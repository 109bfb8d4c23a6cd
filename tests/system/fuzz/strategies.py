"""Hypothesis strategies for input from the network, with many awkward values."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from workspaces.ids import new_id

AWKWARD = "\0\x1f\x7f\x85\xa0\u200b\u202e\u2028\ufeff\U0010ffff%/?#;,.:_-+'\"\\\r\n\t "
letters = st.characters(exclude_categories=["Cs"]) | st.sampled_from(AWKWARD)
sendable = st.text(letters, max_size=80)  # encodable as UTF-8: without lone surrogates
texts = st.text(letters | st.sampled_from("\ud800\udfff"), max_size=80)

# Servers reject all other characters in headers. Django decodes headers as ISO 8859-1.
header_values = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]) | st.just("\t"), max_size=200)

OFFSETS = ["", "Z", "z", "+00:00", "-00:00", "+24:00", "-24:00", "+23:59", "-23:59", "+99:99", "+0000", "+1", " Z"]
datetimes = (
    st.datetimes()
    | st.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2040-01-01"))
    | st.just(datetime.fromisoformat("9999-12-31T23:59:59.999999"))
)
UNUSUAL_TIMESTAMPS = [
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "+12026-01-01T00:00:00Z", "-0001-01-01T00:00:00Z",
    "2028-12-31T23:59:60Z", "2028-06-30T23:59:60+00:00", "2028-02-30T00:00:00Z", "2028-13-01T00:00:00Z",
    "2028-01-01T24:00:00Z", "2028-01-01T25:00:00Z", "2028-01-01", "20280101T000000Z", "2028-W01-1", "2028-001",
    "2028-01-01T00:00:00.1234567890123456789Z", "2028-01-01T00:00:00,5Z", "\u0662\u0660\u0662\u0668-01-01T00:00:00Z",
    "1e400", "9" * 5_000, "1" * 400, "now", "tomorrow", "Infinity", "",
]  # fmt: skip
timestamps = st.one_of(
    st.builds(
        lambda time, separator, offset: time.isoformat(separator) + offset,
        datetimes,
        st.sampled_from("Tt _"),
        st.sampled_from(OFFSETS),
    ),
    st.sampled_from(UNUSUAL_TIMESTAMPS),
    sendable,
)
numbers = st.integers() | st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 10**18, 1e308, 0.1, -0.0])
scalars: st.SearchStrategy[Any] = st.none() | st.booleans() | numbers | sendable | timestamps
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(sendable, inner, max_size=4))

MALFORMED = [
    b"", b" ", b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"nul", b"{", b"}", b"{}{}",
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-" + b"9" * 5_000, b"01", b"'a'", b'{"a":1,}', b"{a:1}", b"[1,]",
    b'"\0"', b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\u0000"', b'"\\x00"', b'"\\u00"', b"//", b'{"a":1,"a":2}',
    b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'"' + b"a" * (1024 * 1024) + b'"', b" " * (1024 * 1024 + 1),
]  # fmt: skip
json_texts = st.one_of(
    values.map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value, ensure_ascii=False).encode()),
    st.sampled_from(MALFORMED),
    st.binary(max_size=200),
)


def bodies(required: str, *names: str) -> st.SearchStrategy[bytes]:
    """Return a strategy for request bodies: any JSON, and text that is almost JSON.

    Many are objects with the field `required` and others, some of them twice. Some of these objects are damaged.
    """
    title = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=60).map(json.dumps)
    field = st.builds(member, st.sampled_from([required, *names]), json_texts)
    others = st.lists(field, max_size=2)
    objects = st.builds(
        lambda before, value, after: b"{" + b",".join([*before, member(required, value.encode()), *after]) + b"}",
        others,
        title,
        others,
    )
    return objects | json_texts | st.builds(damage, objects, st.integers(0, 200), st.binary(max_size=3))


def member(name: str, value: bytes) -> bytes:
    return json.dumps(name).encode() + b":" + value


def damage(body: bytes, position: int, replacement: bytes) -> bytes:
    return body[:position] + replacement + body[position + 1 :]


def near_misses(text: str) -> st.SearchStrategy[str]:
    """Return a strategy for strings that differ from `text` by a few edits."""
    position, piece = (
        st.integers(0, len(text)),
        st.text(letters, max_size=3) | st.sampled_from(["_", "0", "one_", text]),
    )
    edit = st.tuples(position, st.integers(0, 3), piece)
    return st.lists(edit, min_size=1, max_size=3).map(lambda edits: apply_edits(text, edits)) | st.sampled_from(
        [text.lower(), text.upper(), text.swapcase(), text[::-1], text * 2, f" {text}", f"{text}\0", f"{text}\n"]
    )


def apply_edits(text: str, edits: list[tuple[int, int, str]]) -> str:
    for position, deleted, piece in edits:
        text = text[:position] + piece + text[position + deleted :]
    return text


def ids(prefix: str) -> st.SearchStrategy[str]:
    """Return a strategy for ids of objects that don't exist: well-formed, almost well-formed and malformed."""
    new = st.builds(lambda: new_id(prefix))
    return (
        new
        | new.flatmap(near_misses)
        | sendable
        | st.sampled_from(["current", "null", "..", f"{prefix}_", f"{prefix}_{'0' * 26}"])
    )
