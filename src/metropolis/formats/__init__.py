# SPDX-License-Identifier: Apache-2.0
"""Pure codecs for bytes at rest.

Refuses I/O, clocks and randomness: what is random comes in as bytes.

    audit     the hash chain of who changed what, and its verification
    backup    the encrypted snapshot of a cluster's state
"""
