# SPDX-License-Identifier: Apache-2.0
"""What a node must know before its disk is open, closed to everybody but this machine's TPM.

Refuses to guess: when a TPM does not give a key out, the error says what changed and what to do.

    envelope   the file: a tag that says plain or sealed, a version, a checksum; pure
    builder    who signed the image that was booted; pure
    keeper     the edge: gives a key out again under conditions, and its twin in memory
    tpm        the keeper of a machine
    talk       one conversation with a TPM, cleaned up behind
    diagnosis  why a TPM gave nothing out, from what was noted when it took the key; pure
    sealer     contents under a key that a keeper keeps

    content ──AES-256-GCM──▶ file on the ESP          conditions of the key, in this order:
                 ▲                                     1 PCR 11 is signed by the image builder
             key of 32 bytes                           2 PCR 7 is what it was: Secure Boot, its keys
                 ▲                                     3 (here goes the floor: a counter in the TPM
     TPM: storage key, policy ◀── SealedKey                 that the image's number has to reach)

Invariants: a TPM's answer is checked by a key that only it and we know, and a secret on its wires
is encrypted, so a listener learns nothing (somebody who can change what goes over these wires can
pretend to be the TPM: that is not defended against); every handle is flushed, whatever happened;
wrong tries do not lock the TPM. Once the node has read what it needs, PCR 11 is extended, and
nothing that was sealed before opens again until the next start.
"""
