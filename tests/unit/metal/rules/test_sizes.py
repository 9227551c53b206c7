# SPDX-License-Identifier: Apache-2.0
"""Which size hardware has."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.hardware import Cpu, Disk, Gpu, Hardware
from metropolis.metal.model.size import Size, SizeConstraint
from metropolis.metal.rules.sizes import (
    fits,
    match,
    overlap,
    refuse_overlap,
    suggest,
    validate,
)

GIB = 2**30


def limit(kind: Any, low: int, high: int | None = None, identifier: str = "") -> SizeConstraint:
    return SizeConstraint(
        type=kind, minimum=low, maximum=low if high is None else high, identifier=identifier
    )


def hardware(
    *,
    cores: int = 8,
    memory: int = 64 * GIB,
    disks: dict[str, int] | None = None,
    gpus: tuple[str, ...] = (),
) -> Hardware:
    return Hardware(
        memory_bytes=memory,
        cpus=(Cpu(model="Xeon", cores=cores),),
        disks=tuple(
            Disk(name=name, size_bytes=size)
            for name, size in ({"/dev/sda": 100 * GIB} if disks is None else disks).items()
        ),
        gpus=tuple(Gpu(model=model) for model in gpus),
    )


SMALL = Size(
    constraints=(
        limit("cores", 8),
        limit("memory", 60 * GIB, 70 * GIB),
        limit("storage", 0, 200 * GIB),
    )
)


def test_hardware_within_all_ranges_has_the_size() -> None:
    assert match(hardware(), [("small", SMALL)]) == "small"


@pytest.mark.parametrize(
    "other",
    [
        hardware(cores=9),
        hardware(memory=59 * GIB),
        hardware(disks={"/dev/sda": 201 * GIB}),
        hardware(gpus=("H100",)),
    ],
    ids=["cores", "memory", "storage", "unconstrained gpu"],
)
def test_hardware_outside_of_one_range_is_unknown(other: Hardware) -> None:
    assert match(other, [("small", SMALL)]) == "unknown"


def test_both_ends_belong_to_a_range() -> None:
    assert fits(hardware(memory=60 * GIB), SMALL)
    assert fits(hardware(memory=70 * GIB), SMALL)


def test_a_size_without_constraints_fits_nothing() -> None:
    assert match(hardware(), [("any", Size())]) == "unknown"


def test_hardware_that_two_sizes_fit_is_unknown() -> None:
    assert match(hardware(), [("a", SMALL), ("b", SMALL)]) == "unknown"


def test_memory_without_a_constraint_is_not_covered() -> None:
    size = Size(constraints=(limit("cores", 8), limit("storage", 0, 200 * GIB)))
    assert not fits(hardware(), size)


def test_a_disk_that_no_identifier_names_is_not_covered() -> None:
    size = Size(
        constraints=(
            limit("cores", 8),
            limit("memory", 64 * GIB),
            limit("storage", 0, 500 * GIB, "/dev/sd*"),
        )
    )
    assert fits(hardware(), size)
    assert not fits(hardware(disks={"/dev/sda": GIB, "/dev/nvme0n1": GIB}), size)


def test_every_identifier_sums_up_its_own_disks() -> None:
    size = Size(
        constraints=(
            limit("cores", 8),
            limit("memory", 64 * GIB),
            limit("storage", 10 * GIB, identifier="/dev/sd*"),
            limit("storage", 2 * GIB, identifier="/dev/nvme*"),
        )
    )
    assert fits(
        hardware(disks={"/dev/sda": 4 * GIB, "/dev/sdb": 6 * GIB, "/dev/nvme0n1": 2 * GIB}), size
    )
    assert not fits(hardware(disks={"/dev/sda": 4 * GIB, "/dev/nvme0n1": 2 * GIB}), size)


def test_gpus_are_counted_by_model() -> None:
    size = Size(constraints=(*SMALL.constraints, limit("gpu", 2, identifier="H100*")))
    assert fits(hardware(gpus=("H100", "H100-SXM")), size)
    assert not fits(hardware(gpus=("H100",)), size)
    assert not fits(hardware(gpus=("H100", "H100", "L4")), size)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ((limit("cores", 4, 3),), "less than min"),
        ((limit("gpu", 1),), "needs an identifier"),
        ((limit("memory", 1, identifier="x"),), "no identifier"),
        ((limit("memory", 1), limit("memory", 2)), "more than one of type memory"),
        ((limit("cores", 1), limit("cores", 2)), "more than one of type cores"),
        ((limit("storage", 1, identifier="["),), "pattern"),
        ((limit("storage", 1, 2**64),), "more than"),
    ],
)
def test_a_size_that_makes_no_sense_is_refused(
    constraints: tuple[SizeConstraint, ...], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        validate("c1", Size(constraints=constraints))


def test_the_greatest_number_of_the_interface_is_a_good_maximum() -> None:
    validate("c1", Size(constraints=(limit("memory", 0, 2**64 - 1),)))


def test_a_size_without_constraints_overlaps_with_nothing() -> None:
    optional = Size(constraints=(limit("storage", 0, 9),))
    assert not overlap(Size(), optional)
    assert not overlap(optional, Size())


def test_unknown_is_no_id_of_a_size() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown"):
        validate("unknown", SMALL)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((limit("cores", 1, 8),), (limit("cores", 8, 16),), True),
        ((limit("cores", 1, 7),), (limit("cores", 8, 16),), False),
        ((limit("cores", 1, 8),), (limit("cores", 8), limit("memory", 1, 9)), False),
        ((limit("gpu", 1, identifier="A"),), (limit("gpu", 1, identifier="B"),), False),
        ((limit("gpu", 0, 1, "A"),), (limit("gpu", 0, 1, "B"),), True),
        (
            (limit("storage", 1, 2, "/dev/sd*"), limit("storage", 1, 2, "/dev/nvme*")),
            (limit("storage", 2, 3, "/dev/sd*"), limit("storage", 2, 3, "/dev/nvme*")),
            True,
        ),
        ((), (), False),
    ],
)
def test_sizes_overlap_when_the_same_hardware_fits_both(
    one: tuple[SizeConstraint, ...], other: tuple[SizeConstraint, ...], expected: bool
) -> None:
    assert overlap(Size(constraints=one), Size(constraints=other)) is expected
    assert overlap(Size(constraints=other), Size(constraints=one)) is expected


def test_an_overlap_is_refused_naming_the_other_size() -> None:
    with pytest.raises(InvalidArgumentError, match="'new' overlaps with size 'small'"):
        refuse_overlap("new", SMALL, [("small", SMALL)])


def test_a_size_does_not_overlap_with_itself_when_it_is_changed() -> None:
    refuse_overlap("small", SMALL, [("small", SMALL)])


amounts = st.integers(min_value=0, max_value=5)
names = st.text(alphabet="ab*[?\\/", max_size=4)
machines = st.builds(
    Hardware,
    memory_bytes=amounts,
    cpus=st.lists(st.builds(Cpu, model=names, cores=amounts), max_size=3).map(tuple),
    disks=st.lists(st.builds(Disk, name=names, size_bytes=amounts), max_size=3).map(tuple),
    gpus=st.lists(st.builds(Gpu, model=names), max_size=3).map(tuple),
)


@given(machines)
def test_hardware_has_the_size_that_is_suggested_for_it(machine: Hardware) -> None:
    size = Size(constraints=suggest(machine))
    validate("suggested", size)
    assert fits(machine, size)


plain = st.sampled_from(["/dev/sda", "/dev/nvme0n1"])
plain_machines = st.builds(
    lambda cores, memory, disks: hardware(cores=cores, memory=memory, disks=disks),
    amounts,
    amounts,
    st.dictionaries(plain, amounts, max_size=2),
)
ranges = st.tuples(amounts, amounts).map(lambda pair: (min(pair), max(pair)))


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    constraints = [limit(kind, *draw(ranges)) for kind in ("cores", "memory")]
    identifiers = draw(st.sets(st.sampled_from(["/dev/sda", "/dev/nvme*"]), min_size=1))
    constraints += [limit("storage", *draw(ranges), each) for each in sorted(identifiers)]
    return Size(constraints=tuple(constraints))


@given(sizes(), sizes(), plain_machines)
def test_sizes_that_do_not_overlap_never_fit_the_same_hardware(
    one: Size, other: Size, machine: Hardware
) -> None:
    if not overlap(one, other):
        assert not (fits(machine, one) and fits(machine, other))
