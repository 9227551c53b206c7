# SPDX-License-Identifier: Apache-2.0
"""Sans-I/O cores for bytes in flight: what is said to a device or a peer, and what it answered.

Refuses I/O, clocks and randomness: what is random comes in as bytes.

    dhcp4     a client that leases an address: messages, and when to send which
    tpm2      commands and responses of a TPM 2.0, and its sessions
"""
