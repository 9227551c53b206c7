# SPDX-License-Identifier: Apache-2.0
"""A cluster's state as one file, encrypted so that the cluster itself cannot read it again.

    header     what is said in clear: generation, revision, which cluster, for which key
    archive    header, records in the order of their keys, count, SHA-256, signature of the CA
    sealing    the archive in chunks, encrypted to a recovery key
    file       both together, as a stream in either direction

    magic │ header │ ephemeral key │ chunk 0 │ chunk 1 │ … │ last chunk
      └──── bound by the key ───┘    └─ record record … record │ count │ SHA-256 │ signature ─┘

Refuses to hand out a record as good before the end was seen: a reader keeps what it got until
`finish` returns, because only the end says that nothing is missing.

Invariants: one byte changed, cut, added or moved anywhere is an error with a reason; memory is
bounded by one chunk and one record, whatever the file's size; the same inputs give the same bytes.
"""
