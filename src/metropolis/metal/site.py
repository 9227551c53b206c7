# SPDX-License-Identifier: Apache-2.0
"""What every call of one Metal control plane works with."""

from dataclasses import dataclass, field

from metropolis.host import Clock, Entropy
from metropolis.metal.settings import Settings
from metropolis.metal.store import Store
from metropolis.metal.store.memory import Memory
from metropolis.metal.web import HttpWeb, Web


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One replica of the control plane: its store, its edges, its settings."""

    store: Store
    clock: Clock
    entropy: Entropy
    settings: Settings
    web: Web = field(default_factory=HttpWeb)
    memory: Memory = field(default_factory=Memory)
