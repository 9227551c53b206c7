# SPDX-License-Identifier: Apache-2.0
"""`metalctl`: the command line of the Metal API, with the commands that people know.

    main           the program; exit status as `metroctl`'s
    command_tree   every command, imported when it is called
    configuration  contexts of `~/.metalctl/config.yaml`; `session` adds environment and flags
    client         HTTP, JSON and signatures on one kept connection
    places         where each entity is in the API: all that completion needs
    entities       what may be read and written of each entity, and its flags: one table
    entity_commands  list, describe, create, apply, update, delete, edit, made of that table
    plan           what people want, against what is there: steps, and `diff` to show them
    bulk           does the steps: shows, asks, tells, counts what failed
    tables         JSON to headers and rows; `output` prints them, or JSON, YAML, templates
    login_flow     OpenID Connect in a browser; `token_store` keeps what comes of it
    commands       what is of one entity alone

         arguments ──▶ flags ──▶ body ──▶ plan ──▶ client ──▶ API
         file ─────▶ documents ──▶ ┘        │          │
      stdout: data  ◀── tables, template, JSON, YAML ◀─┘
      stderr: talk, error: … / remedy: …      exit: 0 done, 1 fix it, 2 try again

Refuses server internals: it knows paths and field names, nothing of how Metal works inside; and a
language of its own: what `describe` prints is what `apply` takes.

Invariants: `--help` loads no command, no YAML and no TLS; nothing but reads is sent twice; no key
or token is printed, or on another program's command line; a dry run sends nothing that changes
anything; completion never fails and never waits for long.
"""
