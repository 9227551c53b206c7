# SPDX-License-Identifier: Apache-2.0
"""What a leader knows about the nodes that are being decommissioned: for callers who look on.

The store holds the truth (`state.decommissions`). This is thrown away with the tenure.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.cluster.planner.decommission import Step
from metropolis.cluster.state.decommissions import Decommission
from metropolis.supervision import Value

KEPT_MAX: Final = 50  # sentences per node, for lookers-on who are slow or late


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Where one decommission stands, for people."""

    step: Step
    sentence: str
    is_waiting: bool = False


class Retiring:
    """Filled by the worker (`metropolis.cluster.retire`), read by services and the office."""

    def __init__(self) -> None:
        self.records: dict[str, Decommission] = {}
        self.is_loaded = False  # before that, nothing is known about anybody
        self.wake = asyncio.Event()
        self._said: dict[str, Value[Sequence[Said]]] = {}

    def adopt(self, record: Decommission) -> None:
        """Note what is stored about one node, or is about to be."""
        self.records[record.node_id] = record

    def forget(self, node_id: str) -> None:
        """Note that a node is gone altogether; whoever looks on is told so."""
        self.records.pop(node_id, None)
        value = self._said.pop(node_id, None)
        if value is not None:
            value.set((*value.current, Said(step=Step.DONE, sentence="The node was deleted.")))

    def may_say_goodbye(self, node_id: str) -> bool:
        """Tell whether a node that is out of service is still to report that it is wiped."""
        record = self.records.get(node_id)
        return record is not None and record.step <= Step.WIPE

    def said(self, node_id: str) -> Value[Sequence[Said]]:
        """Return what was said lately about the decommission of a node, to be watched."""
        return self._said.setdefault(node_id, Value(()))

    def say(self, node_id: str, said: Said) -> bool:
        """Publish where the decommission of a node stands; tell whether that is news."""
        value = self.said(node_id)
        if value.current and value.current[-1] == said:
            return False
        value.set((*value.current[-KEPT_MAX:], said))
        return True
