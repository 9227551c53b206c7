# SPDX-License-Identifier: Apache-2.0
"""A network as one machine uses it, stored with the machine and answered as it is."""

import msgspec


class MachineAllocationNetwork(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True
):
    """A network that a machine shall be in, and whether it gets addresses there by itself."""

    networkid: str
    autoacquire: bool | None = True


class MachineNetwork(msgspec.Struct, kw_only=True, frozen=True):
    """A network as a machine has it: its addresses there, and what the network was at that time.

    Attributes:
        asn: Of the machine, the same on all its networks.
        networktype: `privateprimaryunshared`, `privateprimaryshared`, `privatesecondaryshared`,
            `external` or `underlay`.
        private: The network is a private one, primary or not.
    """

    network_id: str = msgspec.field(name="networkid")
    prefixes: tuple[str, ...]
    destination_prefixes: tuple[str, ...] = msgspec.field(name="destinationprefixes")
    ips: tuple[str, ...]
    vrf: int
    asn: int
    nat: bool
    private: bool
    underlay: bool
    network_type: str = msgspec.field(name="networktype")
    network_type_v2: str = msgspec.field(name="networktypev2")
    nat_type_v2: str = msgspec.field(name="nattypev2")
    project_id: str = msgspec.field(name="projectid")

    @property
    def primary(self) -> bool:
        """Whether this is the private network whose VRF the machine's ports are in."""
        return self.network_type.startswith("privateprimary")
