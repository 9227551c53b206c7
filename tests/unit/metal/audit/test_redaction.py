# SPDX-License-Identifier: Apache-2.0
"""What the audit keeps of a body, however it was made up."""

import sys
from typing import Any

import msgspec

from metropolis.metal.audit.redaction import TEXT_CHARACTERS_MAX, redacted


def test_secrets_are_struck_out_at_any_depth() -> None:
    body = {"a": [{"userData": "x", "ipmi": {"Password": "y", "user": "root"}}], "token": ["z"]}
    assert msgspec.json.decode(redacted(msgspec.json.encode(body))) == {
        "a": [{"userData": "[redacted]", "ipmi": {"Password": "[redacted]", "user": "root"}}],
        "token": "[redacted]",
    }


def test_whose_password_it_is_is_struck_out_with_it() -> None:
    body = {"user": "ada", "ipmi": {"user": "root", "password": "x", "address": "a"}}
    assert msgspec.json.decode(redacted(msgspec.json.encode(body))) == {
        "user": "ada",
        "ipmi": {"user": "[redacted]", "password": "[redacted]", "address": "a"},
    }


def test_no_more_of_a_body_is_looked_at_than_is_kept() -> None:
    body = b"[" + b'{"a":[0]},' * 200_000 + b"0]"
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        text = redacted(body)
    finally:
        sys.setprofile(None)
    assert calls < 2 * TEXT_CHARACTERS_MAX
    assert text == body.decode()[:TEXT_CHARACTERS_MAX] + "…"


def test_a_body_that_is_kept_whole_is_whole() -> None:
    body = msgspec.json.encode([{"n": n} for n in range(1000)])
    assert redacted(body) == body.decode()
