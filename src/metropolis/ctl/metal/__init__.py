# SPDX-License-Identifier: Apache-2.0
"""`metalctl`: the command line of the Metal API, with the commands that people know.

    main           the program; exit status as `metroctl`'s
    command_tree   every command, imported when it is called
    configuration  contexts of `~/.metalctl/config.yaml`, environment, flags
    client         HTTP, JSON and signatures
    entities       what create, update, apply, list and describe are for each entity: one table

Refuses server internals: it knows paths and field names, nothing of how Metal works inside.
"""
