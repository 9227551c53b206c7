# SPDX-License-Identifier: Apache-2.0
"""The qemu driver: a machine is a virtual one, with firmware, Secure Boot, a TPM and a disk.

    keeper ── boot (opens the cable, starts the TPM, then becomes QEMU)
                ├── swtpm      nodes/0/tpm            made by the cluster's own maker of TPMs
                └── QEMU       nodes/0/disk.raw       the installed system, sparse
                               nodes/0/firmware.fd    the firmware's variables, with our keys
                               nodes/0/monitor.sock   power button, reset
                               nodes/0/parameters.sock   a new machine waits there to be told
                               standard output        the serial console, into console.log

    arguments     what QEMU and swtpm are told; pure
    accelerator   KVM where it truly runs guests, else emulation
    flash         the firmware's variable store; pure
    preparation   what a machine has before its first power-on
    blank         machines without a system, and sticks for them
    firmware      OVMF, and a machine's first variables
    tpm           makes TPMs, with endorsement certificates of a maker of our own
    disks         an installed disk, from an image
    monitor       QEMU's control socket
    late_parameters  tells machines that wait what to be
    dhcp          the rack's DHCP and name server
    boot          the program that becomes QEMU
    guest         one virtual machine as a library, for tests and measurements
    requirements  what this computer lacks, with remedies

A reboot of the guest happens inside QEMU; its power off ends QEMU, and the machine stays off.
Nothing here is a model: the firmware checks signatures, the TPM seals, a cut is a SIGKILL.
"""
