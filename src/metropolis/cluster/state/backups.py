# SPDX-License-Identifier: Apache-2.0
"""What the store says about backups: to which key, how often, and how many there were."""

from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.backup_pb2 import BackupSettings, BackupState
from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.base.errors import DataLossError
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import Change, FencedStore, is_unchanged
from metropolis.consensus.store import Get, KeyValue, Put

BACKUPS: Final = keys.CURATOR + b"/ext/backups/"  # ours
SETTINGS: Final = BACKUPS + b"settings"
STATE: Final = BACKUPS + b"state"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFacts:
    """Settings and state as of one moment."""

    settings: BackupSettings
    newest_generation: int
    cluster_domain: str
    settings_revision: int = field(repr=False)
    state_revision: int = field(repr=False)

    def with_settings(self, settings: BackupSettings) -> Change:
        """Return the change that replaces the settings."""
        return Change(
            compares=(is_unchanged(SETTINGS, self.settings_revision),),
            operations=(Put(SETTINGS, settings.SerializeToString(deterministic=True)),),
            sentence="changed recovery key or schedule of backups",
        )

    def with_next_generation(self) -> Change:
        """Return the change that counts one more backup."""
        state = BackupState(newest_generation=self.newest_generation + 1)
        return Change(
            compares=(
                is_unchanged(STATE, self.state_revision),
                is_unchanged(SETTINGS, self.settings_revision),
            ),
            operations=(Put(STATE, state.SerializeToString(deterministic=True)),),
            sentence=f"made backup {state.newest_generation}",
        )


async def read_facts(store: FencedStore) -> BackupFacts:
    """Read what the store says.

    Raises:
        DataLossError: it is damaged.
    """
    snapshot = await store.read(Get(SETTINGS), Get(STATE), Get(keys.CONFIGURATION))
    settings, state, configuration = (snapshot.one(index) for index in range(3))
    try:
        return BackupFacts(
            settings=BackupSettings.FromString(_value(settings)),
            newest_generation=BackupState.FromString(_value(state)).newest_generation,
            cluster_domain=ClusterConfiguration.FromString(_value(configuration)).cluster_domain,
            settings_revision=0 if settings is None else settings.mod_revision,
            state_revision=0 if state is None else state.mod_revision,
        )
    except DecodeError as cause:
        raise DataLossError(
            "the settings of backups, or of the cluster, are damaged in the store",
            remedy="Restore the store from a backup.",
        ) from cause


def _value(found: KeyValue | None) -> bytes:
    return b"" if found is None else found.value
