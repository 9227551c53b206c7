# SPDX-License-Identifier: Apache-2.0
"""A rotation of the owner's key that was interrupted, and goes on where it was."""

from pathlib import Path

from metropolis.ctl import contexts, credentials
from metropolis.pki import keys
from unit.ctl.conftest import Metroctl
from unit.ctl.remote import ENTROPY, Remote

NEXT = "owner-key.next.pem"


def test_a_new_key_that_the_cluster_has_taken_is_adopted(
    metroctl: Metroctl, remote: Remote, owner: list[str], home: Path
) -> None:
    new = keys.generate_key(ENTROPY)
    pending = home / "keys" / NEXT
    pending.write_text(keys.to_owner_pem(new))
    remote.owner_key = new  # the reply was lost
    done = metroctl([*owner, "auth", "rotate-owner-key"])
    assert done.status == 0, done.err
    assert "The rotation that was interrupted is done." in done.err
    shown = credentials.owner_credentials(contexts.flat(home / "keys"))
    assert keys.raw_public_key(shown.key) == keys.raw_public_key(new)
    credentials.check_issued(shown.certificate, ca=remote.authority.certificate, key=new)
    assert not pending.exists()


def test_a_new_key_that_the_cluster_never_heard_of_replaces_nothing(
    metroctl: Metroctl, remote: Remote, owner: list[str], home: Path
) -> None:
    pending = home / "keys" / NEXT
    pending.write_text(keys.to_owner_pem(keys.generate_key(ENTROPY)))
    before = (home / "keys" / "owner-key.pem").read_text()
    done = metroctl([*owner, "auth", "rotate-owner-key"])  # this cluster knows no rotation
    assert done.status != 0
    assert (home / "keys" / "owner-key.pem").read_text() == before
    assert pending.exists()
    assert metroctl([*owner, "node", "list"]).status == 0
    assert remote.requests("Escrow")
