# SPDX-License-Identifier: Apache-2.0
"""The dashboard of a cluster of one real node, on a real pseudo-terminal."""

import asyncio
from collections.abc import Iterator

import pytest

from e2e.lab.clusters import Launched, launched
from unit.ctl.dashboard.program import on_terminal


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("page"), count=1) as made:
        yield made


@pytest.mark.timeout(90)
def test_the_page_shows_a_real_node_and_says_when_its_leader_is_gone(single: Launched) -> None:
    words = ["--config", str(single.context.directory), "--proxy", str(single.context.proxy)]
    words += ["--endpoints", "10.1.0.2", "--timeout", "2"]
    with on_terminal([*words, "dashboard", "-n", "0.5"]) as program:
        program.wait_text("1 of 1 healthy")
        program.wait_text("1 of 1 voting members can be reached; none more may fail")
        program.wait_text("cm,kc  10.1.0.2")
        program.wait_text("Nothing keeps it from doing its work.")
        program.type("l")
        program.wait_text("═ 4 Log of")
        program.wait_text("statuspush I Status reported: address 10.1.0.2")
        asyncio.run(single.cluster.power(0, "kill"))
        program.wait_text("NO LEADER ANSWERS: what is shown is")
        program.wait_text("The log cannot be read")
        assert "HEALTHY" in program.text
        assert "statuspush I Status reported" in program.text  # what it said stays
        asyncio.run(single.cluster.power(0, "on"))
        program.wait_text("1 of 1 healthy")
        program.type("q")
        assert program.wait_end() == 0
        assert program.is_given_back
