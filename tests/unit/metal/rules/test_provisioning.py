# SPDX-License-Identifier: Apache-2.0
"""What each of the eleven events does in each of the eleven states.

The matrix is written out by hand, from what the original's documentation says, not from the table
of the code. A row is a state, a column an event; a cell is what becomes of the event:

    S stored · s seen only · . ignored · U unexpected, stored · u unexpected, seen only
    + sets the crash loop · - clears it · e remembers the error
    f sets the flag of a failed reclaim · r clears it
"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.metal.model.event import LOG_SHOWN_MAX, Event, EventContainer
from metropolis.metal.rules.provisioning import (
    EFFECTS,
    LATE_AFTER,
    LATE_EFFECTS,
    STATES,
    Effect,
    Keep,
    State,
    new_container,
    step,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
COLUMNS = (
    "Alive", "Crashed", "PXE Booting", "Planned Reboot", "Preparing", "Registering", "Waiting",
    "Installing", "Booting New Kernel", "Phoned Home", "Machine Reclaim",
)  # fmt: skip
MATRIX = {
    #                     Ali   Cra   PXE    Plan Prep   Reg Wait Inst Boot Phon Recl
    None:                "s     S+e   Sr     S-   Sr     S   S    S    S    S-   S-",
    "PXE Booting":       "s     S+e   sr     S-   Sr     Ue  Ue   Ue   Ue   .    S-",
    "Preparing":         "s     S+e   U+e    S-   U+e    S   Ue   Ue   Ue   .    S-",
    "Registering":       "s     S+e   U+e    S-   U+e    Ue  S    S    Ue   .    S-",
    "Waiting":           "s     S+e   U+e    S-   U+e    Ue  Ue   S    Ue   .    S-",
    "Installing":        "s     S+e   U+e    S-   U+e    Ue  Ue   Ue   S    Ue   S-",
    "Booting New Kernel":"s     S+e   U+e    S-   U+e    Ue  Ue   Ue   Ue   S-   S-",
    "Phoned Home":       "ue    Ue    U+e    S-   U+e    Ue  Ue   Ue   Ue   s    S-",
    "Planned Reboot":    "ue    Ue    Sr     S-   Sr     Ue  Ue   Ue   Ue   S-   S-",
    "Machine Reclaim":   "ue    Ue    Sr     S-   Sr     Ue  Ue   Ue   Ue   .    S-",
    "Crashed":           "ue    Ue    Sr     S-   Sr     Ue  Ue   Ue   Ue   Ue   S-",
}  # fmt: skip
LATE = {
    "Machine Reclaim": "sf",
    "PXE Booting": "s",
    "Preparing": "S",
    "Registering": "S",
    "Waiting": "S",
}


def effect(cell: str) -> Effect:
    """What a cell of the matrix means."""
    kept = {"S": Keep.STORED, "U": Keep.STORED, "s": Keep.SEEN, "u": Keep.SEEN, ".": Keep.IGNORED}
    return Effect(
        keep=kept[cell[0]],
        unexpected=cell[0] in "Uu",
        crash_loop=True if "+" in cell else False if "-" in cell else None,
        failed_reclaim=True if "f" in cell else False if "r" in cell else None,
        error="e" in cell,
    )


def in_state(state: State, *, last: datetime = NOW) -> EventContainer:
    container = new_container("m")
    if state is None:
        return container
    # Planned Reboot gets into itself from everywhere, so any state can be reached by its event.
    forced, _ = step(container, state, now=last)
    assert forced.newest is state
    return forced


@pytest.mark.parametrize("name", MATRIX)
def test_every_event_does_in_every_state_what_the_matrix_says(name: str | None) -> None:
    state = None if name is None else Event(name)
    cells = MATRIX[name].split()
    assert len(cells) == len(COLUMNS) == len(Event)
    for column, cell in zip(COLUMNS, cells, strict=True):
        assert EFFECTS[state, Event(column)] == effect(cell), (name, column)


def test_the_matrix_and_the_table_have_the_same_121_pairs() -> None:
    assert {None if name is None else Event(name) for name in MATRIX} == set(STATES)
    assert len(EFFECTS) == 121


def test_only_phoning_home_is_judged_otherwise_when_it_cannot_be_an_old_message() -> None:
    wanted = {(Event(name), Event.PHONED_HOME): effect(cell) for name, cell in LATE.items()}
    assert wanted == LATE_EFFECTS


@pytest.mark.parametrize("name", LATE)
def test_a_phone_call_that_was_buffered_is_believed_five_minutes_later(name: str) -> None:
    container = in_state(Event(name))
    soon, entry = step(container, Event.PHONED_HOME, now=NOW + LATE_AFTER)
    assert soon is container
    assert entry is None
    late, _ = step(container, Event.PHONED_HOME, now=NOW + LATE_AFTER + timedelta(microseconds=1))
    assert late.last_event_time is not None
    assert late.last_event_time > NOW + LATE_AFTER
    assert late.failed_machine_reclaim is (name == "Machine Reclaim")
    stored = name in {"Preparing", "Registering", "Waiting"}
    assert (late.newest is Event.PHONED_HOME) is stored


def test_an_unexpected_event_says_so_and_is_the_new_state_all_the_same() -> None:
    after, entry = step(in_state(Event.WAITING), Event.PREPARING, now=NOW, message="hello")
    assert entry is not None
    assert entry.message == "[unexpectedly received in waiting] hello"
    assert after.newest is Event.PREPARING
    assert after.crash_loop is True
    assert after.last_error_event == entry


def test_alive_is_never_stored_even_where_nobody_expects_it() -> None:
    before = in_state(Event.PHONED_HOME)
    after, entry = step(before, Event.ALIVE, now=NOW + timedelta(seconds=1))
    assert entry is None
    assert after.log == before.log
    assert after.last_error_event is not None
    assert after.last_error_event.message == "[unexpectedly received in phoned home]"


def test_a_clean_round_clears_the_crash_loop_when_it_has_phoned_home() -> None:
    container = in_state(Event.CRASHED)
    assert container.crash_loop is True
    for event in (
        Event.PXE_BOOTING,
        Event.PREPARING,
        Event.REGISTERING,
        Event.WAITING,
        Event.INSTALLING,
        Event.BOOTING_NEW_KERNEL,
    ):
        container, _ = step(container, event, now=NOW)
        assert container.crash_loop is True
    container, _ = step(container, Event.PHONED_HOME, now=NOW)
    assert container.crash_loop is False


@given(st.lists(st.tuples(st.sampled_from(list(Event)), st.integers(-600, 600)), max_size=150))
def test_time_never_goes_back_and_the_log_stays_short(told: list[tuple[Event, int]]) -> None:
    container, now = new_container("m"), NOW
    for event, seconds in told:
        before = container
        container, entry = step(container, event, now=now + timedelta(seconds=seconds))
        assert container.last_event_time is not None or container is before
        if before.last_event_time is not None:
            assert container.last_event_time is not None
            assert container.last_event_time >= before.last_event_time
        times = [each.time for each in container.log]
        assert times == sorted(times, reverse=True)
        assert len(container.log) <= LOG_SHOWN_MAX
        assert (entry is not None) == (container.log != before.log)
        assert Event.ALIVE not in {each.event for each in container.log}
