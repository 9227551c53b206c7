# SPDX-License-Identifier: Apache-2.0
"""The system image: built from locked inputs, equal bit for bit wherever and whenever it is built.

Refuses what the declaration does not name: no shell, no package manager, no file because some
package has it. Refuses the build machine's tools where their versions could show: what compiles,
compresses and packs comes from the locked packages and runs with their own C library. Refuses keys
inside of a checkout or an image.

    images/node.toml   declaration   packages, programs, wheels, rooms, kernel modules, files
    debian-trixie.lock sysroot       the locked packages as one directory, and its programs
    requirements.lock  wheels        for the image's Python, by their hashes
    src/               compiling     sources to bytecode of one form (`bytecode`), without sources
                       root_tree     all of it as a `tree` of files, libraries found by `elf`
                       kernel_modules their order and the hardware that asks for them
                       system        EROFS and its hash tree
                       initrd        what opens it
                       kernel_image  stub, kernel, initrd, command line; measured and signed
                       keys          PK, KEK, db, pcr: made once, outside of the tree
                       build         all steps, each cached by the content of what it reads
                       manifest      what went in, file by file; `sbom` and `licences` tell others

What leaves the house:

    oci                the image as an OCI artefact, read back chunk by verified chunk
    bundle             bundle.zip: that, and all else an installation needs
    single_file        metroctl as one file for every Python
    release            both, with checksums that the builder's key signs
    media              an install medium, made of a bundle (`medium_source`)

    packages ─┐                         ┌─▶ EROFS ─▶ hash tree ─▶ system.img
    wheels ───┼─▶ tree (root) ──────────┤                │ root hash
    our code ─┘        └─▶ tree (initrd)┴─▶ cpio ─▶ stub + kernel + command line ─▶ kernel.efi
                                                          signed: PCR 11, then all of it

Invariants: the salt is the digest of the data; every time, GUID and serial is fixed; a file's mode
is one of two; what depends on keys is outside of `digest_without_signatures`.
"""
