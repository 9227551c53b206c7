# SPDX-License-Identifier: Apache-2.0
"""Decisions of the control plane, made without touching anything. Pure.

Refuses I/O, clocks and tasks: what is known goes in as values, what to do comes out as a plan or
as an error with a remedy. A plan carries the sentence that is logged when it is carried out.

    tpm, storage   what the cluster's policies make of a machine
    roles          what a change of roles means, all of it checked before anything happens
    membership     how roles and the members of the consensus are brought together, one by one
    decommission   how a node is taken out of service, step by step
    reconfigure    three-way merge of the cluster's configuration
    labels         which labels a node may get
    health         what silence means
    networking     what a node may announce about itself
    directory      which nodes a newcomer is told about
    explain        why a node is not ready
    audit          what the log says of a call, and how the log grows
    attempts       how often refusals enter the log
    authorization  permissions, roles, and what follows from grants
"""
