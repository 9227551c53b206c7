# SPDX-License-Identifier: Apache-2.0
from metropolis.node.boot.timeline import Timeline


def test_the_line_says_what_each_part_took_and_the_whole() -> None:
    timeline = Timeline()
    timeline.firmware_s = 2.14
    timeline.marks.update({"kernel": 2.0, "disk": 2.5, "imports": 6.0})
    timeline.aside.update({"drivers": 4.0})
    assert timeline.line() == (
        "boot: firmware 2.1, kernel 2.00, disk 0.50, imports 3.50; 8.1 s in all; "
        "beside it drivers until 4.00"
    )


def test_a_mark_is_set_once() -> None:
    timeline = Timeline()
    timeline.mark("network")
    first = timeline.marks["network"]
    timeline.mark("network")
    assert timeline.marks == {"network": first}
