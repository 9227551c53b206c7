# SPDX-License-Identifier: Apache-2.0
"""What Metal stores and what it says on the wire, as typed structs, one file per entity.

Names on the wire are the interface's (`sshPubKeys`, `additionalAnnouncableCIDRs`), attribute names
are Python's. What is stored and what is answered are two structs wherever they differ.
"""
