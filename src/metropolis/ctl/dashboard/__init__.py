# SPDX-License-Identifier: Apache-2.0
"""`metroctl dashboard`: one page of a terminal that shows a cluster while it changes.

    model     what is known, frozen: nodes, members, leader, explanation, log, problem and age
    view      what the operator looks at: pane, selection, filter, scrolling; key -> next view
    keys      bytes of a terminal -> keys
    layout    model + view + size + time -> lines of styled text
    cells     how wide a character is; cutting and padding
    paint     two screens -> the fewest bytes that turn one into the other
    plain     model -> text, where there is no terminal
    terminal  raw mode, the alternate screen, and the way back out of both
    feed      asks the cluster, and keeps what it said when it goes silent
    app       feed, keys and clock drive the screen

         cluster ──▶ feed ──▶ Model ──┐
                                      ├──▶ layout ──▶ screen ──▶ paint ──▶ terminal
         terminal ──▶ keys ──▶ View ──┘

All but `terminal`, `feed` and `app` are pure. Text of the cluster is printed only after what
could move the cursor was spelled out.

Invariants: the terminal is as it was after every end but signal 9; a frame is never larger than
what changed; data that is old is shown with its age and never as if it were new.
"""
