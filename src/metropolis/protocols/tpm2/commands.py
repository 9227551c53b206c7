# SPDX-License-Identifier: Apache-2.0
"""The commands we give (part 3): what is asked, and what the answer means.

A `Command` says everything but who entitles to it; `request` adds that and makes bytes of it,
`open_response` checks and decrypts what came back.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.formats.pcr import pcr_selection
from metropolis.protocols.tpm2 import codes
from metropolis.protocols.tpm2.refusal import TpmRefusalError
from metropolis.protocols.tpm2.session import Authorization
from metropolis.protocols.tpm2.wire import Reader, sized, u16, u32

_HEADER_BYTES: Final = 10
_STARTUP_CLEAR: Final = u16(0)
_NO_CREATION_DATA: Final = sized(b"") + u32(0)  # outside information, registers to note


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is asked of the TPM.

    Attributes:
        title: For people, when it is refused.
        handles: What the command is about; the first may need an authorization.
        names: Of these handles; only for commands with an authorization.
        first: Content of the first parameter, when that has a size and may be encrypted.
        parameters: All others.
        makes_handle: The response begins with the handle of something new.
    """

    title: str
    code: int
    handles: Sequence[int] = ()
    names: Sequence[bytes] = ()
    first: bytes | None = None
    parameters: bytes = b""
    makes_handle: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """What the TPM gave. `handle` is 0 unless the command makes something."""

    handle: int
    parameters: Reader


def request(command: Command, authorization: Authorization | None = None) -> bytes:
    """Return the bytes of a command."""
    handles = b"".join(map(u32, command.handles))
    first = command.first
    if first is not None:
        first = sized(first if authorization is None else authorization.encrypt(first))
    parameters = (first or b"") + command.parameters
    if authorization is None:
        return _framed(codes.ST_NO_SESSIONS, command.code, handles + parameters)
    digest = hashlib.sha256(u32(command.code) + b"".join(command.names) + parameters).digest()
    area = authorization.authorize(digest)
    body = handles + u32(len(area)) + area + parameters
    return _framed(codes.ST_SESSIONS, command.code, body)


def open_response(
    data: bytes, command: Command, authorization: Authorization | None = None
) -> Response:
    """Return what a response holds, decrypted.

    Raises:
        TpmRefusalError: the TPM did not do it.
        DataLossError: the response was changed on its way.
    """
    header = Reader(data)
    tag, _size, response_code = header.number(2), header.number(4), header.number(4)
    if response_code != 0:
        raise TpmRefusalError(command.title, response_code)
    handle = header.number(4) if command.makes_handle else 0
    if tag != codes.ST_SESSIONS or authorization is None:
        return Response(handle, header)
    parameters = header.take(header.number(4))
    digest = hashlib.sha256(u32(response_code) + u32(command.code) + parameters).digest()
    authorization.check(digest, header)
    return Response(handle, Reader(parameters))


def startup() -> Command:
    """What firmware says first. Only an emulator without firmware hears it from us."""
    return Command(title="to start", code=codes.CC_STARTUP, parameters=_STARTUP_CLEAR)


def create_primary(hierarchy: int, template: bytes) -> Command:
    """Make a key from a seed of the TPM; see `primary_public` for the answer."""
    no_secret = sized(b"") + sized(b"")
    return Command(
        title="to make its root key",
        code=codes.CC_CREATE_PRIMARY,
        handles=[hierarchy],
        names=[u32(hierarchy)],
        first=no_secret,
        parameters=sized(template) + _NO_CREATION_DATA,
        makes_handle=True,
    )


def primary_public(response: Response) -> bytes:
    """The public area of a key that `create_primary` made."""
    return response.parameters.sized()


def create(parent: int, parent_name: bytes, template: bytes, secret: bytes) -> Command:
    """Encrypt a secret to the parent, with conditions; see `created` for the answer."""
    return Command(
        title="to seal",
        code=codes.CC_CREATE,
        handles=[parent],
        names=[parent_name],
        first=sized(b"") + sized(secret),
        parameters=sized(template) + _NO_CREATION_DATA,
    )


def created(response: Response) -> tuple[bytes, bytes]:
    """The private and the public area that `create` made. The TPM keeps neither."""
    return response.parameters.sized(), response.parameters.sized()


def load(parent: int, parent_name: bytes, private: bytes, public: bytes) -> Command:
    """Give the TPM something back that it made."""
    return Command(
        title="to load what it sealed",
        code=codes.CC_LOAD,
        handles=[parent],
        names=[parent_name],
        first=private,
        parameters=sized(public),
        makes_handle=True,
    )


def unseal(item: int, item_name: bytes) -> Command:
    """Ask for a sealed secret; see `unsealed` for the answer."""
    return Command(title="to unseal", code=codes.CC_UNSEAL, handles=[item], names=[item_name])


def unsealed(response: Response, authorization: Authorization) -> bytes:
    """The secret of an object."""
    return authorization.decrypt(response.parameters.sized())


def flush(handle: int) -> Command:
    """Have the TPM forget a key or a session."""
    return Command(title="to forget", code=codes.CC_FLUSH_CONTEXT, parameters=u32(handle))


def start_session(kind: int, salted_by: int, encrypted_salt: bytes, nonce: bytes) -> Command:
    """Begin a session (AES-128-CFB, SHA-256); the answer holds the TPM's nonce."""
    symmetric = u16(codes.ALG_AES) + u16(128) + u16(codes.ALG_CFB)
    return Command(
        title="to begin a session",
        code=codes.CC_START_AUTH_SESSION,
        handles=[salted_by, codes.RH_NULL],
        first=nonce,
        parameters=sized(encrypted_salt) + bytes([kind]) + symmetric + u16(codes.ALG_SHA256),
        makes_handle=True,
    )


def session_nonce(response: Response) -> bytes:
    """The TPM's first nonce of a new session."""
    return response.parameters.sized()


def policy_pcr(session: int, *indexes: int) -> Command:
    """Assert the current values of registers, whatever they are."""
    return Command(
        title="to judge its registers",
        code=codes.CC_POLICY_PCR,
        handles=[session],
        parameters=sized(b"") + pcr_selection(indexes),
    )


def load_external(public: bytes) -> Command:
    """Have the TPM know a public key."""
    return Command(
        title="a public key",
        code=codes.CC_LOAD_EXTERNAL,
        parameters=sized(b"") + sized(public) + u32(codes.RH_OWNER),
        makes_handle=True,
    )


def verify_signature(key: int, digest: bytes, signature: bytes) -> Command:
    """Check an RSA PKCS #1 v1.5 signature; the answer is a ticket that says it is good."""
    scheme = u16(codes.ALG_RSASSA) + u16(codes.ALG_SHA256)
    return Command(
        title="a signature",
        code=codes.CC_VERIFY_SIGNATURE,
        handles=[key],
        parameters=sized(digest) + scheme + sized(signature),
    )


def ticket(response: Response) -> bytes:
    """The ticket of a good signature."""
    return response.parameters.rest()


def policy_authorize(session: int, *, approved: bytes, key_name: bytes, verified: bytes) -> Command:
    """Have a signed digest stand for any that the same key signs."""
    no_reference = sized(b"")
    return Command(
        title="a signed policy",
        code=codes.CC_POLICY_AUTHORIZE,
        handles=[session],
        parameters=sized(approved) + no_reference + sized(key_name) + verified,
    )


def pcr_read(index: int) -> Command:
    """Ask for a register; see `pcr_value` for the answer."""
    return Command(
        title="to read a register",
        code=codes.CC_PCR_READ,
        parameters=pcr_selection((index,)),
    )


def pcr_value(response: Response) -> bytes:
    """The register's value.

    Raises:
        FailedPreconditionError: the TPM keeps no SHA-256 bank.
    """
    reader = response.parameters
    reader.take(4)  # how often registers changed
    for _ in range(reader.number(4)):  # what was selected, again
        reader.take(2)
        reader.take(reader.number(1))
    if reader.number(4) != 1:
        raise FailedPreconditionError(
            "the TPM keeps no registers of SHA-256",
            remedy="Switch its SHA-256 bank on in the machine's firmware.",
        )
    return reader.sized()


def pcr_extend(index: int, digest: bytes) -> Command:
    """Hash a digest into a register. Only a restart takes it out again."""
    return Command(
        title="to extend a register",
        code=codes.CC_PCR_EXTEND,
        handles=[index],
        names=[u32(index)],
        parameters=u32(1) + u16(codes.ALG_SHA256) + digest,
    )


def _framed(tag: int, code: int, body: bytes) -> bytes:
    return u16(tag) + u32(_HEADER_BYTES + len(body)) + u32(code) + body
