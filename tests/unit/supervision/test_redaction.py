# SPDX-License-Identifier: Apache-2.0
"""No secret enters a journal, however it is spelled and wherever it is cut."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.supervision import LeveledEntry, LogTree, RawEntry, ReadOptions
from metropolis.supervision.redaction import Redaction

SECRET = bytes(range(0x90, 0xB0))
PASSWORD = b"correct horse battery"
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n"
)


class Clock:
    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return datetime(2022, 1, 1, tzinfo=UTC)


def journal(tree: LogTree) -> bytes:
    data = b""
    for entry in tree.read("", ReadOptions(with_children=True, backlog=None)).backlog:
        data += "\n".join(entry.lines).encode() if isinstance(entry, LeveledEntry) else entry.data
    return data


def guarded(*secrets: bytes) -> LogTree:
    tree = LogTree(clock=Clock())
    for secret in secrets:
        tree.conceal(secret)
        tree.conceal(secret)
    return tree


SPELLINGS = [
    SECRET.hex(),
    SECRET.hex().upper(),
    base64.b64encode(SECRET).decode(),
    base64.b64encode(SECRET).decode().rstrip("="),
    base64.urlsafe_b64encode(SECRET).decode(),
    repr(SECRET),
    str(list(SECRET)),
    " ".join(map(str, SECRET)),
    "".join(f"\\{byte:03o}" for byte in SECRET),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_secret_is_hidden(spelling: str) -> None:
    tree = guarded(SECRET)
    tree.leveled("a").info("the ticket is %s.", spelling)
    tree.raw("a").write(f"ticket={spelling}\n".encode())
    text = journal(tree)
    assert text.count(b"<redacted>") == 2
    assert spelling.encode() not in text
    assert text.startswith(b"the ticket is ")


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(4))
def test_a_secret_inside_a_longer_encoding_is_hidden(before: int, after: int) -> None:
    tree = guarded(SECRET)
    message = b"\x0a\x20" * before + SECRET + b"!" * after
    tree.leveled("a").info("%s", base64.b64encode(message).decode())
    tree.leveled("a").info("%s", message.hex())
    text = journal(tree)
    assert text.count(b"<redacted>") == 2
    for start in range(0, len(SECRET) - 9, 3):
        assert base64.b64encode(SECRET[start : start + 9]) not in text


def test_a_password_is_hidden_in_plain_text_and_raw_bytes_are_too() -> None:
    tree = guarded(PASSWORD, SECRET)
    tree.leveled("a").error("login with %r failed", PASSWORD.decode())
    tree.raw("a").write(b"key " + SECRET + b" and " + PASSWORD + b"\n")
    assert journal(tree) == b"login with '<redacted>' failedkey <redacted> and <redacted>"


@pytest.mark.parametrize("cut_at", [1000, 1010, 1020])
def test_a_secret_across_the_limit_of_a_line_leaves_no_beginning(cut_at: int) -> None:
    tree = guarded(PASSWORD)
    tree.raw("a").write(b"x" * cut_at + PASSWORD + b"y" * 100_000 + b"\n")
    (entry,) = tree.read("a", ReadOptions(backlog=None)).backlog
    assert isinstance(entry, RawEntry)
    assert entry.data.rstrip(b"<redacted>y") == b"x" * cut_at
    assert entry.original_length >= len(entry.data)
    assert entry.is_truncated


def test_a_private_key_is_hidden_without_being_known() -> None:
    tree = guarded()
    tree.leveled("a").info("wrote %s to disk", PEM)
    tree.leveled("a").info("cut: %s", PEM[:60])
    raw = tree.raw("b")
    for line in ("before", *PEM.splitlines(), "after"):
        raw.write(f"{line}\n".encode())
    text = journal(tree)
    assert b"MC4C" not in text
    assert b"JLsLMREScVpezJpGXA7rAMcrn9g" not in text
    assert text.startswith(b"wrote <redacted>\n to disk")
    assert text.endswith(b"after")


def test_a_certificate_is_no_secret() -> None:
    tree = guarded()
    pem = PEM.replace("PRIVATE KEY", "CERTIFICATE")
    tree.leveled("a").info("%s", pem)
    tree.raw("a").write(pem.encode())
    assert b"redacted" not in journal(tree)


def test_a_key_without_an_end_does_not_hide_a_log_for_ever() -> None:
    tree = guarded()
    raw = tree.raw("a")
    raw.write(b"-----BEGIN EC PRIVATE KEY-----\n" + b"line\n" * 300)
    assert journal(tree).endswith(b"line" * 40)


def test_secrets_of_parsed_lines_and_of_errors_are_hidden_by_the_same_gate() -> None:
    tree = guarded(PASSWORD)
    assert tree.clean(f"a {PASSWORD.decode()} b") == "a <redacted> b"


@given(st.binary(min_size=12, max_size=64), st.binary(max_size=20), st.binary(max_size=20))
def test_no_secret_survives_in_base64_or_hex(secret: bytes, before: bytes, after: bytes) -> None:
    redaction = Redaction()
    redaction.conceal(secret)
    whole = before + secret + after
    for text in (whole.hex(), base64.b64encode(whole).decode()):
        assert "<redacted>" in redaction.text(text)
    assert secret not in redaction.data(whole)
