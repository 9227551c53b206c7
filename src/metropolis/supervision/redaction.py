# SPDX-License-Identifier: Apache-2.0
"""The last line of defence against secrets in logs: known secrets and PEM private keys.

It does not replace care: nothing may log a secret. It catches what libraries, child processes and
exception texts let slip, in every spelling in which bytes usually reach a text: raw, escaped, hex,
base64 (also inside a longer encoding, where the alignment differs), octal and decimal lists.
"""

import base64
import re

REDACTED = "<redacted>"
SECRET_BYTES_MIN = 4  # shorter ones cannot be told from ordinary text
SECRETS_MAX = 4096
LIST_BYTES_MIN = 8  # "1 2 3 4" is not worth hiding
_PEM_HINT = "-----BEGIN"
_PEM = re.compile(
    r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL
)
_PEM_BYTES = re.compile(_PEM.pattern.encode(), re.DOTALL)
_CORE_CHARS_MIN = 8  # base64 fragments shorter than this say too little to be searched for


class Redaction:
    """Replaces secrets by `<redacted>`. Costs one comparison per entry while none is known."""

    __slots__ = ("_data_forms", "_secrets", "_text_forms")

    def __init__(self) -> None:
        self._secrets: dict[bytes, None] = {}
        self._text_forms: list[str] = []
        self._data_forms: list[bytes] = []

    def conceal(self, secret: bytes) -> None:
        """Replace `secret` from now on, in every spelling. Naming it again is fine."""
        assert len(secret) >= SECRET_BYTES_MIN, "too short to be told from ordinary text"
        if secret in self._secrets:
            return
        assert len(self._secrets) < SECRETS_MAX, "secrets are registered, and never per request"
        self._secrets[bytes(secret)] = None
        forms = dict.fromkeys([*self._data_forms, *_spellings(bytes(secret))])
        self._data_forms = sorted(forms, key=len, reverse=True)  # the longest match hides most
        texts = (form.decode("utf-8", "surrogateescape") for form in self._data_forms)
        self._text_forms = [form for form in texts if form.isascii() or _is_text(form)]

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        if _PEM_HINT in text:
            text = _PEM.sub(REDACTED, text)
        for form in self._text_forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text

    def data(self, data: bytes) -> bytes:
        """Return `data` without secrets."""
        if _PEM_HINT.encode() in data:
            data = _PEM_BYTES.sub(REDACTED.encode(), data)
        for form in self._data_forms:
            if form in data:
                data = data.replace(form, REDACTED.encode())
        return data


def _is_text(form: str) -> bool:
    try:
        form.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spellings(secret: bytes) -> list[bytes]:
    standard, urlsafe = base64.b64encode(secret), base64.urlsafe_b64encode(secret)
    spellings = [secret, repr(secret)[2:-1].encode(), secret.hex().encode()]
    spellings += [secret.hex().upper().encode(), _octal(secret)]
    if len(secret) >= LIST_BYTES_MIN:
        spellings += [separator.join(map(str, secret)).encode() for separator in (" ", ", ", ",")]
    spellings += [standard, urlsafe, standard.rstrip(b"="), urlsafe.rstrip(b"=")]
    for offset in range(3):
        core = _base64_core(secret, offset=offset)
        if len(core) >= _CORE_CHARS_MIN:
            spellings += [core, core.translate(bytes.maketrans(b"+/", b"-_"))]
    return spellings


def _base64_core(secret: bytes, *, offset: int) -> bytes:
    """Return the characters that `secret` alone determines, `offset` bytes into an encoding."""
    encoded = base64.b64encode(bytes(offset) + secret)
    return encoded[-(-offset * 8 // 6) : (offset + len(secret)) * 8 // 6]


def _octal(secret: bytes) -> bytes:
    """Spell bytes as protobuf's text format does."""
    printable = range(0x20, 0x7F)
    return "".join(chr(b) if b in printable else f"\\{b:03o}" for b in secret).encode()


class PemLines:
    """Hides private keys that arrive line by line, as child processes print them."""

    __slots__ = ("_lines_left",)

    KEY_LINES_MAX = 256  # a 16384-bit RSA key has 200; a BEGIN without END hides no more than this

    def __init__(self) -> None:
        self._lines_left = 0

    def line(self, data: bytes) -> bytes:
        """Return `data`, or `<redacted>` if it is part of a private key."""
        if self._lines_left:
            self._lines_left = 0 if b"-----END" in data else self._lines_left - 1
            return REDACTED.encode()
        begin = data.rfind(b"-----BEGIN")
        if begin >= 0 and b"PRIVATE KEY-----" in data[begin:] and b"-----END" not in data[begin:]:
            self._lines_left = self.KEY_LINES_MAX
        return data
