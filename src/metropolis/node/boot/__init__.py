# SPDX-License-Identifier: Apache-2.0
"""From the kernel's first program to a node: the initrd, then process 1, in one process.

Refuses to guess: a root file system is what the signed command line names, bit for bit, or none.

    firmware ──▶ kernel.efi (stub, kernel, initrd, command line; signed as a whole)
                   │
    initrd         │ modules of the boot disk · its SYSTEM partition by GUID · dm-verity · EROFS
                   │ watchdog armed, this boot counted (`node.slots`)
                   ▼ chroot, same process, same interpreter
    machine        process 1: mounts, modules by modalias, ESP, then two trees over one log:
                   ├── machine   firewall · network · time · serial · screen · kernel · crash
                   │             watchdog, fed until `confirmation`: member of the cluster again
                   └── root      the node, `metropolis.node.root`, once per set of addresses

While process 1 imports the node, a child of it loads drivers and mounts the ESP (`devices`). What
it imports is one file (`ready_modules`), and data classes were compiled when the image was built
(`ready_code`).

Invariants:
  * Process 1 never ends: whatever it cannot handle is printed with its next step, and the machine
    starts again after some seconds.
  * The initrd imports nothing but the standard library's small modules, `metropolis.base`,
    `metropolis.formats.gpt` and light modules of `metropolis.host.linux`: every file is read by
    the firmware first.
  * The command line comes from the signed kernel image: it is trusted. Nothing else is, until the
    key of the data partition was unsealed.
"""
