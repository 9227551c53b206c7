# SPDX-License-Identifier: Apache-2.0
"""AAA.Escrow for users besides the owner: a one-time password, later the key itself.

    parameters ──▶ the key has a certificate that is admitted and lasts? ──yes──▶ a new one
                        │ no
                        ▼
    needed: KIND_PLAINTEXT_PASSWORD ──▶ proofs ──▶ right, in time, not used ─────▶ a first one
                                            └────▶ anything else: one answer for all of it

Certificates live 30 days. What is refused is never said: who may log in is nobody's business.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from metropolis.api.aaa_pb2 import EscrowRequest, EscrowResponse
from metropolis.api.accounts_pb2 import StoredUser
from metropolis.api.users_pb2 import Certificate
from metropolis.base.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnimplementedError,
)
from metropolis.cluster.access import fingerprint
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.authorization import check_name
from metropolis.cluster.services.callers import check_public_key
from metropolis.cluster.services.users import is_later
from metropolis.cluster.state import accounts
from metropolis.cluster.state.accounts import UserRecord
from metropolis.cluster.state.fenced import Change, is_unchanged, retry_conflicts
from metropolis.consensus.store import Get, Put
from metropolis.pki.certificates import Validity, issue_user, serial_number, user_validity
from metropolis.pki.passwords import HashedPassword
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import PeerKind

PASSWORD_S_MAX: Final = 120.0  # a person may have to type it
KEYS_PER_USER_MAX: Final = 16
BACKDATE: Final = timedelta(hours=1)  # for nodes whose clocks are behind the leader's

_ProofRequest = EscrowResponse.ProofRequest
_REFRESH: Final = _ProofRequest(kind=_ProofRequest.KIND_REFRESH_CERTIFICATE)
_PASSWORD: Final = _ProofRequest(kind=_ProofRequest.KIND_PLAINTEXT_PASSWORD)
_Stream = ServerStream[EscrowRequest, EscrowResponse]
_NO_PASSWORD: Final = HashedPassword(salt=bytes(16), digest=bytes(32))


async def escrow_user(
    leader: Leader, stream: _Stream, parameters: EscrowRequest.Parameters
) -> None:
    """Exchange the proof of a key, and of being a certain user, for a certificate."""
    name = check_name(parameters.requested_identity_name, "user")
    key = check_public_key(parameters.public_key, "public_key")
    peer = stream.peer
    if peer.kind is not PeerKind.EPHEMERAL or peer.public_key is None:
        await stream.send(EscrowResponse(needed=[_REFRESH]))
        raise UnauthenticatedError(
            "the key was not proven",
            remedy="Connect with one self-signed Ed25519 certificate for the key.",
        )
    if peer.public_key != key:
        raise UnimplementedError(
            "a certificate is issued only for the key of the connection",
            remedy="Connect with the key that the certificate shall be for.",
        )
    certificate = await retry_conflicts(lambda: _renew(leader, name, key))
    if certificate is not None:
        leader.log.info("User %s: certificate renewed", name)
        await stream.send(EscrowResponse(fulfilled=[_REFRESH], emitted_certificate=certificate))
        return
    await stream.send(EscrowResponse(needed=[_PASSWORD]))
    text = await _password(stream)
    certificate = await retry_conflicts(lambda: _redeem(leader, name, key, text))
    leader.log.info("User %s: logged in with a one-time password", name)
    await stream.send(EscrowResponse(fulfilled=[_PASSWORD], emitted_certificate=certificate))


async def _password(stream: _Stream) -> str:
    try:
        async with asyncio.timeout(PASSWORD_S_MAX):
            request = await stream.receive()
    except TimeoutError:
        raise DeadlineExceededError(
            f"no password was shown within {PASSWORD_S_MAX:.0f} s", remedy="Start again."
        ) from None
    if request is None:
        raise UnauthenticatedError(
            "a one-time password is needed, and none was shown",
            remedy="Ask for one, then run `metroctl user login NAME`.",
        )
    if not request.HasField("proofs") or request.HasField("parameters"):
        raise InvalidArgumentError(
            "the second message is no proof", remedy="Send proofs.plaintext_password."
        )
    return request.proofs.plaintext_password


async def _renew(leader: Leader, name: str, key: bytes) -> bytes | None:
    """Give a new certificate to a key that has one; None if it has none."""
    record = await _load(leader, name)
    if record is None or record.message is None:
        return None
    now = leader.own.clock.wall()
    own = [each for each in _lasting(record.message, now) if each.public_key == key]
    return await _issue(leader, record, key, uses_password=False) if own else None


async def _redeem(leader: Leader, name: str, key: bytes, text: str) -> bytes:
    """Take a password and give a certificate; count what is wrong before it is answered."""
    record = await _load(leader, name)
    now = leader.own.clock.wall()
    message = None if record is None else record.message
    kept = StoredUser().password if message is None else message.password
    is_live = bool(kept.attempts_left) and is_later(kept.expires, _stamp(now))
    hashed = HashedPassword(salt=kept.salt, digest=kept.digest) if is_live else _NO_PASSWORD
    is_right = hashed.is_shown_by(text)
    if record is None or message is None or not is_live:
        raise _refusal()
    if not is_right:
        counted = StoredUser()
        counted.CopyFrom(message)
        counted.password.attempts_left -= 1
        await _write(leader, record, counted, "a wrong password was tried")
        leader.log.warning(
            "User %s: a wrong password, %d attempts left", name, counted.password.attempts_left
        )
        raise _refusal()
    return await _issue(leader, record, key, uses_password=True)


async def _issue(leader: Leader, record: UserRecord, key: bytes, *, uses_password: bool) -> bytes:
    """Sign a certificate and admit it."""
    assert record.message is not None, "checked by the callers"
    now = leader.own.clock.wall()
    message = StoredUser()
    message.CopyFrom(record.message)
    if uses_password:
        message.ClearField("password")
    lasting = _lasting(message, now)
    previous = [each for each in lasting if each.public_key == key]
    others = [each for each in lasting if each.public_key != key]
    if len({each.public_key for each in others}) >= KEYS_PER_USER_MAX:
        raise ResourceExhaustedError(
            f"user {record.name!r} has {KEYS_PER_USER_MAX} keys already",
            remedy=f"Refuse those that are not used with `metroctl user revoke-certificates "
            f"{record.name}`.",
        )
    lasts = user_validity(now)
    validity = Validity(not_before=lasts.not_before - BACKDATE, not_after=lasts.not_after)
    certificate = await leader.pki.sign(
        lambda authority, serial: issue_user(
            authority, key, identity=record.name, serial=serial, validity=validity
        )
    )
    del message.certificates[:]
    message.certificates.extend([*others, *previous[-1:], _entry(certificate, key, validity)])
    await _write(leader, record, message, "issued a certificate")
    return certificate


async def _load(leader: Leader, name: str) -> UserRecord | None:
    snapshot = await leader.store.read(Get(accounts.user_key(name)))
    return accounts.decode(snapshot.ranges[0]).users.get(name)


async def _write(leader: Leader, record: UserRecord, message: StoredUser, sentence: str) -> None:
    key = accounts.user_key(record.name)
    revision = await leader.store.write(
        Change(
            compares=(is_unchanged(key, record.mod_revision),),
            operations=(Put(key, message.SerializeToString()),),
            sentence=sentence,
            object=record.name,
        )
    )
    await leader.access.settle(revision)


def _lasting(message: StoredUser, now: datetime) -> list[Certificate]:
    return [each for each in message.certificates if is_later(each.not_after, _stamp(now))]


def _entry(certificate: bytes, key: bytes, validity: Validity) -> Certificate:
    serial = serial_number(certificate)
    return Certificate(
        serial=serial.to_bytes(16, "big"),
        public_key=key,
        fingerprint=fingerprint(certificate),
        not_after=_stamp(validity.not_after),
    )


def _refusal() -> PermissionDeniedError:
    return PermissionDeniedError(
        "this password does not admit this user",
        remedy="Check the name and the password. It works once, for a limited time and a few "
        "attempts; ask for a new one with `metroctl user password NAME`.",
    )


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp
