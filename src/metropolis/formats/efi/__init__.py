# SPDX-License-Identifier: Apache-2.0
"""What a firmware keeps in its variables (UEFI specification 2.10).

variables           names, vendors, attributes; the form of a file in efivarfs
signature_database  EFI_SIGNATURE_LIST: the content of PK, KEK, db and dbx
authentication      the signed form in which those are written (".auth" files)
load_option         Boot####, BootOrder and BootNext; device paths of files on GPT disks
"""
