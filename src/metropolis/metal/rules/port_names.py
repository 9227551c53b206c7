# SPDX-License-Identifier: Apache-2.0
"""Names of switch ports, and what a port of one vendor's switch is called by another's.

A port is a *line* of the switch chip. SONiC counts lines (`Ethernet8`); Cumulus counts cages of
four lines (`swp3`), and the lines of a cage that is broken out (`swp3s0` … `swp3s3`).
"""

import re
from collections.abc import Iterable, Mapping

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.switch import SwitchVendor

LINES_PER_CAGE = 4
_SONIC = re.compile(r"Ethernet(0|[1-9][0-9]{0,4})")
_CUMULUS = re.compile(r"swp([1-9][0-9]{0,4})(?:s([0-3]))?")
_NAMES: Mapping[SwitchVendor, re.Pattern[str]] = {"SONiC": _SONIC, "Cumulus": _CUMULUS}


def is_port_name(name: str, vendor: SwitchVendor) -> bool:
    """Whether a name is one that this vendor gives, other than `eth0` or `mgmt`."""
    return _NAMES[vendor].fullmatch(name) is not None


def line_of(name: str, vendor: SwitchVendor) -> int:
    """The line that a port's name stands for, from 0.

    Raises:
        InvalidArgumentError: the name is not one that this vendor gives.
    """
    match = _NAMES[vendor].fullmatch(name)
    if match and vendor == "SONiC":
        return int(match[1])
    if match:
        return (int(match[1]) - 1) * LINES_PER_CAGE + int(match[2] or 0)
    raise InvalidArgumentError(
        f"nics: {name[:80]!r} is no port name of {vendor}",
        remedy="Use Ethernet<line> with SONiC, swp<cage> or swp<cage>s<line> with Cumulus.",
    )


def translate(names: Iterable[str], source: SwitchVendor, target: SwitchVendor) -> dict[str, str]:
    """What ports of one switch are called by another vendor.

    All ports of the switch are needed, because whether a cage is broken out is only seen from its
    other lines.

    Raises:
        InvalidArgumentError: a name is not one that the source's vendor gives.
    """
    if source == target:
        return {name: name for name in names}
    lines = {name: line_of(name, source) for name in names}
    if target == "SONiC":
        return {name: f"Ethernet{line}" for name, line in lines.items()}
    taken = set(lines.values())
    return {name: _cumulus_name(line, taken) for name, line in lines.items()}


def _cumulus_name(line: int, taken: set[int]) -> str:
    cage, part = divmod(line, LINES_PER_CAGE)
    neighbours = range(cage * LINES_PER_CAGE + 1, (cage + 1) * LINES_PER_CAGE)
    broken_out = part > 0 or any(each in taken for each in neighbours)
    return f"swp{cage + 1}s{part}" if broken_out else f"swp{cage + 1}"
