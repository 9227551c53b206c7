# SPDX-License-Identifier: Apache-2.0
"""Sans-I/O cores for bytes in flight: what is said to a device or a peer, and what it answered.

Refuses I/O, clocks and randomness: what is random comes in as bytes.

    tpm2      commands and responses of a TPM 2.0, its sessions, policies and names
"""
