# SPDX-License-Identifier: Apache-2.0
"""Pure codecs for bytes at rest.

Refuses I/O, clocks and randomness: what is random comes in as bytes.

    audit         the hash chain of who changed what, and its verification
    backup        the encrypted snapshot of a cluster's state
    gpt, fat      what is on a disk: partition tables, the file system that firmware reads
    cpio, verity  what the kernel reads: its first root, hash trees of system partitions
    pe            programs that the firmware starts; `authenticode` signs them (pkcs7, der)
    efi           the firmware's variables: boot entries, keys of Secure Boot
    pcr           what a TPM will have measured, and policies that depend on it
    event_log     what a TPM has measured, and what changed since
    module_pack   what a program imports, in one file
    disk_token    the second key of an encrypted disk, for an operator's recovery key
    oci           a system image as an artefact whose every chunk is verified

Decoders believe nothing: whatever bytes come in, they answer, or raise `DataLossError` (it is
damaged) or `InvalidArgumentError` (it is something else). Encoders write the same bytes for the
same input, so that whoever builds a system image twice has one.

    sections ─▶ pe ─▶ authenticode ─▶ fat ─┐
    files ─▶ (erofs) ─▶ verity ────────────┴▶ gpt ─▶ a disk that boots
"""
