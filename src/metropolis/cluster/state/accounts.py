# SPDX-License-Identifier: Apache-2.0
"""Users, groups and the owner's key, as stored. All of it lies under a prefix of our own.

    <prefix>user/<name>      StoredUser: grants, admitted certificates, a password
    <prefix>group/<name>     StoredGroup: grants
    <prefix>owner            OwnerKey, once it was rotated
    <prefix>epoch            written by every administrative change, so that those exclude
                             each other: a group is not deleted while somebody joins it

An unreadable user is admitted nowhere, an unreadable group gives nothing; both can be deleted.
An unreadable owner's key admits no owner: better nobody than the thief of the old one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.accounts_pb2 import OwnerKey, StoredGroup, StoredUser
from metropolis.api.users_pb2 import AccessTable, Grants
from metropolis.base.ids import PUBLIC_KEY_BYTES
from metropolis.cluster.planner.authorization import Granted, effective
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import Change, is_unchanged
from metropolis.consensus.store import KeyValue, Put

PREFIX: Final = keys.CURATOR + b"/ext/users/"
OWNER_KEY: Final = PREFIX + b"owner"
EPOCH: Final = PREFIX + b"epoch"
_USER: Final = PREFIX + b"user/"
_GROUP: Final = PREFIX + b"group/"
_NO_KEY: Final = b"damaged"  # equals no key


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """One user as stored.

    Attributes:
        message: Never changed in place; None when it cannot be read. Holds the digest of a
            password, so it never shows.
        mod_revision: 0 for a record that is not stored yet.
    """

    name: str
    message: StoredUser | None = field(repr=False)
    mod_revision: int = 0

    @property
    def granted(self) -> Granted:
        """What the user was granted itself."""
        return Granted() if self.message is None else granted_of(self.message.grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """One group as stored; `message` is None when it cannot be read."""

    name: str
    message: StoredGroup | None
    mod_revision: int = 0

    @property
    def granted(self) -> Granted:
        """What its members hold by it."""
        return Granted() if self.message is None else granted_of(self.message.grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """All of it, at one revision.

    Attributes:
        owner_key: The only key that is the owner's; None while it was never rotated.
        epoch_revision: Of the last administrative change; 0 before the first.
    """

    users: Mapping[str, UserRecord]
    groups: Mapping[str, GroupRecord]
    owner_key: bytes | None
    owner_revision: int = 0
    epoch_revision: int = 0

    def permissions_of(self, granted: Granted) -> frozenset[str]:
        """Return what follows from grants."""
        known = (self.groups.get(name) for name in granted.groups)
        return effective(granted, {group.name: group.granted for group in known if group})

    def held_by(self, user: str) -> frozenset[str]:
        """Return what a user may do; nothing when there is none of that name."""
        record = self.users.get(user)
        return frozenset() if record is None else self.permissions_of(record.granted)

    def members_of(self, group: str) -> list[str]:
        """Names of the members of a group."""
        return [name for name, user in self.users.items() if group in user.granted.groups]

    def next_epoch(self) -> Change:
        """Return the part of every administrative change that excludes all others."""
        return Change(
            compares=(is_unchanged(EPOCH, self.epoch_revision),), operations=(Put(EPOCH, b"x"),)
        )


def user_key(name: str) -> bytes:
    """Key of a user's record."""
    return _USER + name.encode("ascii")


def group_key(name: str) -> bytes:
    """Key of a group's record."""
    return _GROUP + name.encode("ascii")


def decode(items: Iterable[KeyValue]) -> Accounts:
    """Read everything under the prefix. What cannot be read is marked, never an error."""
    users: dict[str, UserRecord] = {}
    groups: dict[str, GroupRecord] = {}
    owner_key, owner_revision, epoch_revision = None, 0, 0
    for item in items:
        revision = item.mod_revision
        if item.key.startswith(_USER):
            name = _name(item.key, _USER)
            users[name] = UserRecord(
                name=name, message=_user(name, item.value), mod_revision=revision
            )
        elif item.key.startswith(_GROUP):
            name = _name(item.key, _GROUP)
            groups[name] = GroupRecord(
                name=name, message=_group(name, item.value), mod_revision=revision
            )
        elif item.key == OWNER_KEY:
            owner_key, owner_revision = _owner(item.value), revision
        elif item.key == EPOCH:
            epoch_revision = revision
    return Accounts(
        users=dict(sorted(users.items())),
        groups=dict(sorted(groups.items())),
        owner_key=owner_key,
        owner_revision=owner_revision,
        epoch_revision=epoch_revision,
    )


def table_of(accounts: Accounts) -> AccessTable:
    """Return what servers judge users by."""
    return AccessTable(
        users=[
            AccessTable.Entry(
                name=name,
                permissions=sorted(accounts.held_by(name)),
                fingerprints=[each.fingerprint for each in record.message.certificates],
            )
            for name, record in accounts.users.items()
            if record.message is not None
        ],
        owner_public_key=accounts.owner_key or b"",
    )


def granted_of(grants: Grants) -> Granted:
    """Read grants from the wire or the store."""
    return Granted(
        roles=frozenset(grants.roles),
        permissions=frozenset(grants.permissions),
        groups=frozenset(grants.groups),
    )


def grants_of(granted: Granted) -> Grants:
    """Write grants down, sorted."""
    return Grants(
        roles=sorted(granted.roles),
        permissions=sorted(granted.permissions),
        groups=sorted(granted.groups),
    )


def _name(key: bytes, prefix: bytes) -> str:
    return key.removeprefix(prefix).decode("ascii", errors="replace")


def _user(name: str, value: bytes) -> StoredUser | None:
    try:
        message = StoredUser.FromString(value)
    except DecodeError:
        return None
    return message if message.name == name else None


def _group(name: str, value: bytes) -> StoredGroup | None:
    try:
        message = StoredGroup.FromString(value)
    except DecodeError:
        return None
    return message if message.name == name else None


def _owner(value: bytes) -> bytes:
    try:
        key = OwnerKey.FromString(value).public_key
    except DecodeError:
        return _NO_KEY
    return key if len(key) == PUBLIC_KEY_BYTES else _NO_KEY
