# SPDX-License-Identifier: Apache-2.0
"""Local clusters: `metropolis launch | rack | status | stop | start | power | console | destroy`.

A cluster of the lab is a rack: machines with a power switch, a network between them, and one way
in for the operator. The nodes inside run the same code as on real machines and know nothing of the
lab. Everything that a cluster is on this computer hangs below one process, its *keeper*, and one
directory, its state; so stopping is complete, even after the keeper was killed with signal 9.

    metropolis launch ──starts──▶ keeper (one per cluster, outlives the command)
           │                       ├── proxy     SOCKS5 on 127.0.0.1, only to nodes' client ports
           │◀──unix socket, JSON──▶├── control   status, power, link, split, stop
           │                       ├── dhcp      addresses for virtual machines
           │                       └── machines  one process per node, started again when it ends
           ▼
    clusters/NAME/                           network of the lab: a namespace of its own
      cluster.json   what the rack is          lab0 10.1.0.1/24 ── veth ── eth0 10.1.0.2   node 0
      keeper.log     what the keeper did                         ── veth ── eth0 10.1.0.3   node 1
      nodes/0/storage     node 0's disk, or    (no route to the computer or the world)
      nodes/0/disk.raw    that of a virtual machine, beside its firmware and TPM
      nodes/0/console.log what it prints

    model       what a rack is: addresses, ports, who gets which role
    state       the directory of one cluster
    keeper      the process that holds the rack
    control     how to talk to the keeper
    socks5      the proxy's protocol, without I/O;  proxy  its shell
    driver      what a kind of machine is to the keeper;  drivers  the two of them
    qemu        virtual machines: firmware, TPM, disks, image
    namespace   machines as namespaces of this kernel
    launch      from nothing, or from wherever it was interrupted, to healthy nodes
    rack_context  how `metroctl` reaches machines that their operator installs
    leftovers   finds and ends what a killed keeper may have left behind
    faults      what breaks below the machines: disks and cables;  relay  a bad cable
    cluster     all of it as a library, for tests and benchmarks
    main        the command line

Refuses to touch the computer: no named namespace, no mount outside the nodes', no route, no
firewall rule, no file outside the state directory and the operator's context.

Invariants: one keeper per cluster (a file lock); when the keeper dies, every process of the rack
dies with it; every command can be repeated after it was interrupted anywhere.
"""
