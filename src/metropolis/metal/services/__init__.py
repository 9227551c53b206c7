# SPDX-License-Identifier: Apache-2.0
"""What can be done with each entity, inside a transaction that the caller opened.

A function takes a `Reader` or a `Transaction` first and awaits nothing but that: no network, no
sleep, so that a transaction may be repeated and several may share one commit.
"""
