# SPDX-License-Identifier: Apache-2.0
from metropolis.base.errors import DataLossError, NotFoundError
from metropolis.node.boot.last_words import last_words


def test_an_operating_error_says_its_cause_and_next_step_and_no_traceback() -> None:
    error = NotFoundError("no disk has the system", remedy="Check the cable.")
    error.__cause__ = OSError("it is gone")
    assert last_words(error, doing="boot") == (
        "Fatal error: cannot boot: no disk has the system: it is gone",
        "Next step: Check the cable.",
    )


def test_the_error_inside_a_group_counts() -> None:
    group = ExceptionGroup("many", [DataLossError("torn", remedy="Mend it.")])
    assert last_words(group, doing="run")[0] == "Fatal error: cannot run: torn"


def test_an_error_of_ours_says_where_it_was() -> None:
    try:
        raise KeyError("sums")
    except KeyError as error:
        lines = last_words(error, doing="boot")
    assert lines[0] == "Fatal error: cannot boot: KeyError: 'sums'"
    assert "test_last_words.py" in lines[1]
    assert lines[-1].startswith("Next step: Report it")
