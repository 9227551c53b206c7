# SPDX-License-Identifier: Apache-2.0
"""What a machine shows to people who stand in front of it, or read its serial line.

Refuses to take commands: there is no login, and the only keys that do anything turn the page. Shows
no secret: what the log holds was cleaned before.

    facts       what there is to show, put together from the machine's values; pure
    screen      two pages of text, status and log; pure
    paint       from one screen to the next in few bytes; pure
    display     the runnable that draws on /dev/tty0, at most ten times a second
    serial      the runnable that prints on the serial line: facts when they change, filtered log
    log_lines   the whole log, line by line, where a node is a program of another computer

Invariants: whatever is awaited is said in one sentence; a failure is shown with its cause and its
next step; memory is bounded by the size of the screen.
"""
