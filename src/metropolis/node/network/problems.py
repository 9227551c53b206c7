# SPDX-License-Identifier: Apache-2.0
"""Collects what is wrong with a message, by field."""

from typing import Final, final

PROBLEMS_MAX: Final = 50  # nobody reads more


@final
class Problems:
    """Sentences of the form "field.path: what is wrong"."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, fault: str) -> None:
        """Note a fault of a field."""
        if len(self.found) < PROBLEMS_MAX:
            self.found.append(f"{path}: {fault}")
