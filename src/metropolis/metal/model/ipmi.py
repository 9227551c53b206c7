# SPDX-License-Identifier: Apache-2.0
"""BMCs: how to reach the one of a machine, and what it reported.

Apart from the machine: it is written every few minutes, and it holds a password.
"""

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, field
from typing_extensions import override

from metropolis.metal.store import Kind

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Fru(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Part and serial numbers (field replaceable unit); absent where the BMC knows none."""

    chassis_part_number: str | None = None
    chassis_part_serial: str | None = None
    board_mfg: str | None = None
    board_mfg_serial: str | None = None
    board_part_number: str | None = None
    product_manufacturer: str | None = None
    product_part_number: str | None = None
    product_serial: str | None = None


class PowerMetric(Struct, frozen=True, kw_only=True):
    """Consumption over an interval, in minutes and watts."""

    average_consumed_watts: float = field(name="averageconsumedwatts", default=0.0)
    interval_min: float = field(name="intervalinmin", default=0.0)
    max_consumed_watts: float = field(name="maxconsumedwatts", default=0.0)
    min_consumed_watts: float = field(name="minconsumedwatts", default=0.0)


class PowerSupplyStatus(Struct, frozen=True, kw_only=True):
    """How a power supply is."""

    health: str = ""
    state: str = ""


class PowerSupply(Struct, frozen=True, kw_only=True):
    """A power supply."""

    status: PowerSupplyStatus = PowerSupplyStatus()


class Ipmi(Struct, frozen=True, kw_only=True):
    """A BMC as it is stored.

    Attributes:
        id: Of its machine.
        address: `host:port`.
        last_updated: When it reported last; the beginning of 1970 when never.
    """

    id: str
    address: str = ""
    mac: str = ""
    user: str = ""
    password: str = ""
    interface: str = ""
    fru: Fru = Fru()
    bmc_version: str = field(name="bmcversion", default="")
    power_state: str = field(name="powerstate", default="")
    power_metric: PowerMetric = field(name="powermetric", default=PowerMetric())
    power_supplies: tuple[PowerSupply, ...] = field(name="powersupplies", default=())
    last_updated: datetime

    @override
    def __repr__(self) -> str:
        """Without the password."""
        return f"Ipmi(address={self.address!r}, mac={self.mac!r}, user={self.user!r})"


def _given(*values: str | None) -> tuple[str, ...]:
    return tuple(value for value in values if value)


IPMIS = Kind(
    name="ipmi",
    type=Ipmi,
    facets={
        "id": lambda each: (each.id,),
        "address": lambda each: _given(each.address),
        "mac": lambda each: _given(each.mac),
        "board": lambda each: _given(each.fru.board_part_number),
        "board-serial": lambda each: _given(each.fru.board_mfg_serial),
        "product-serial": lambda each: _given(each.fru.product_serial),
        "chassis-serial": lambda each: _given(each.fru.chassis_part_serial),
    },
)


class MachineIPMI(Struct, frozen=True, kw_only=True):
    """A BMC as it is answered."""

    address: str
    mac: str
    user: str
    password: str
    interface: str
    fru: Fru
    bmc_version: str = field(name="bmcversion")
    power_state: str = field(name="powerstate")
    power_metric: PowerMetric = field(name="powermetric")
    power_supplies: tuple[PowerSupply, ...] = field(name="powersupplies")
    last_updated: datetime

    @classmethod
    def of(cls, ipmi: Ipmi | None, *, with_secrets: bool) -> "MachineIPMI":
        """Show a BMC; whoever may not see secrets sees empty user and password."""
        known = Ipmi(id="", last_updated=NEVER) if ipmi is None else ipmi
        return cls(
            address=known.address,
            mac=known.mac,
            user=known.user if with_secrets else "",
            password=known.password if with_secrets else "",
            interface=known.interface,
            fru=known.fru,
            bmc_version=known.bmc_version,
            power_state=known.power_state,
            power_metric=known.power_metric,
            power_supplies=known.power_supplies,
            last_updated=known.last_updated,
        )

    @override
    def __repr__(self) -> str:
        """Without the password."""
        return f"MachineIPMI(address={self.address!r})"


class ConsolePassword(Struct, frozen=True, kw_only=True):
    """The password of the operating system's console user, under the id of the machine."""

    password: str

    @override
    def __repr__(self) -> str:
        """Without the password."""
        return "ConsolePassword()"


CONSOLE_PASSWORDS = Kind(name="console-password", type=ConsolePassword)
