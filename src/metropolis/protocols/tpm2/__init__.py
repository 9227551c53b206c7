# SPDX-License-Identifier: Apache-2.0
"""TPM 2.0: the few commands a node gives, marshalled by hand. No library of the TSS is needed.

Refuses I/O and waiting: a command is bytes out, a response is bytes in, randomness is an argument.

    codes       numbers of the specification
    wire        sized fields, written and read
    refusal     what a TPM answers when it does not do it
    public      public areas of the keys we have made
    session     authorization: passwords, and salted sessions that encrypt a parameter
    commands    one function per command: what is asked, and what the answer means

    Command ──request()──▶ bytes ─▶ TPM ─▶ bytes ──open_response()──▶ Response | TpmRefusalError

What a TPM measures, and policy digests computed without asking one, are `formats.pcr`.

Source: TCG, "Trusted Platform Module Library", family 2.0, revision 1.59: part 1 (architecture:
sessions, names, KDFs), 2 (structures), 3 (commands).
"""
