# SPDX-License-Identifier: Apache-2.0
"""Which size a machine has, judged by its hardware."""

from collections.abc import Iterable, Mapping, Sequence

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.hardware import Hardware
from metropolis.metal.model.size import (
    AMOUNT_MAX,
    UNKNOWN_SIZE,
    ConstraintType,
    Size,
    SizeConstraint,
)
from metropolis.metal.rules import glob


def validate(size_id: str, size: Size) -> None:
    """Judge a size by itself.

    Raises:
        InvalidArgumentError: which constraint is wrong, and why.
    """
    if size_id in ("", UNKNOWN_SIZE):
        raise InvalidArgumentError(
            f"id: {size_id!r} cannot be the id of a size",
            remedy=f"Choose another id; {UNKNOWN_SIZE!r} is what machines without a size show.",
        )
    for at, constraint in enumerate(size.constraints):
        _validate_constraint(f"constraints[{at}]", constraint)
    for once in ("memory", "cores"):
        if sum(constraint.type == once for constraint in size.constraints) > 1:
            raise InvalidArgumentError(
                f"constraints: more than one of type {once}",
                remedy=f"State one range of {once}.",
            )


def _validate_constraint(where: str, constraint: SizeConstraint) -> None:
    if constraint.maximum > AMOUNT_MAX:
        raise InvalidArgumentError(
            f"{where}: max is more than {AMOUNT_MAX}", remedy="State a smaller maximum."
        )
    if constraint.maximum < constraint.minimum:
        raise InvalidArgumentError(
            f"{where}: max {constraint.maximum} is less than min {constraint.minimum}",
            remedy="State a range from min to max.",
        )
    if constraint.type == "gpu" and not constraint.identifier:
        raise InvalidArgumentError(
            f"{where}: a gpu constraint needs an identifier",
            remedy="Give a shell pattern of the GPU model, for example 'AD102GL*'.",
        )
    if constraint.type == "memory" and constraint.identifier:
        raise InvalidArgumentError(
            f"{where}: a memory constraint has no identifier", remedy="Leave out the identifier."
        )
    glob.validate(constraint.identifier)


def match(hardware: Hardware, sizes: Iterable[tuple[str, Size]]) -> str:
    """Return the id of the one size that hardware has; `unknown` when it is none or several."""
    found = [size_id for size_id, size in sizes if fits(hardware, size)]
    return found[0] if len(found) == 1 else UNKNOWN_SIZE


def fits(hardware: Hardware, size: Size) -> bool:
    """Whether every constraint holds, and nothing of the hardware is without a constraint."""
    if not size.constraints or not all(_holds(hardware, item) for item in size.constraints):
        return False
    return all(
        any(_covers(constraint, kind, name) for constraint in size.constraints)
        for kind, name in _parts(hardware)
    )


def _holds(hardware: Hardware, constraint: SizeConstraint) -> bool:
    return constraint.minimum <= _amount(hardware, constraint) <= constraint.maximum


def _amount(hardware: Hardware, constraint: SizeConstraint) -> int:
    match constraint.type:
        case "cores":
            return sum(cpu.cores for cpu in hardware.cpus if _named(constraint, cpu.model))
        case "gpu":
            return sum(_named(constraint, gpu.model) for gpu in hardware.gpus)
        case "memory":
            return hardware.memory_bytes
        case "storage":
            return sum(disk.size_bytes for disk in hardware.disks if _named(constraint, disk.name))


def _named(constraint: SizeConstraint, name: str) -> bool:
    return not constraint.identifier or glob.matches(constraint.identifier, name)


def _covers(constraint: SizeConstraint, kind: ConstraintType, name: str) -> bool:
    return constraint.type == kind and _named(constraint, name)


def _parts(hardware: Hardware) -> list[tuple[ConstraintType, str]]:
    parts: list[tuple[ConstraintType, str]] = [("cores", cpu.model) for cpu in hardware.cpus]
    parts.extend(("gpu", gpu.model) for gpu in hardware.gpus)
    parts.extend(("storage", disk.name) for disk in hardware.disks)
    if hardware.memory_bytes:
        parts.append(("memory", ""))
    return parts


def overlap(one: Size, other: Size) -> bool:
    """Whether the same hardware could fit both sizes.

    Both must constrain the same types. Ranges of the same identifier must touch; an identifier
    that only one of them has rules an overlap out, unless its range begins at 0. Patterns are
    compared as text: two that are written differently and match the same are not found here, but
    such a machine becomes `unknown` when it registers.
    """
    if not one.constraints or not other.constraints:
        return False
    ours, theirs = _by_subject(one), _by_subject(other)
    if {kind for kind, _ in ours} != {kind for kind, _ in theirs}:
        return False
    for subject in ours.keys() | theirs.keys():
        ranges = [*ours.get(subject, ()), *theirs.get(subject, ())]
        if subject not in ours or subject not in theirs:
            ranges.append((0, 0))
        if max(low for low, _ in ranges) > min(high for _, high in ranges):
            return False
    return True


def _by_subject(size: Size) -> Mapping[tuple[ConstraintType, str], list[tuple[int, int]]]:
    ranges: dict[tuple[ConstraintType, str], list[tuple[int, int]]] = {}
    for constraint in size.constraints:
        subject = (constraint.type, constraint.identifier)
        ranges.setdefault(subject, []).append((constraint.minimum, constraint.maximum))
    return ranges


def refuse_overlap(size_id: str, size: Size, others: Iterable[tuple[str, Size]]) -> None:
    """Refuse a size that machines of another size would fit, too.

    Raises:
        InvalidArgumentError: with which size it overlaps.
    """
    for other_id, other in others:
        if other_id != size_id and overlap(size, other):
            raise InvalidArgumentError(
                f"constraints: size {size_id!r} overlaps with size {other_id!r}",
                remedy="Separate the ranges of at least one type of constraint.",
            )


def suggest(hardware: Hardware) -> tuple[SizeConstraint, ...]:
    """Return constraints that exactly this hardware fits."""
    constraints: list[SizeConstraint] = []

    def add(kind: ConstraintType, amount: int, names: Sequence[str]) -> None:
        constraints.append(
            SizeConstraint(
                type=kind, minimum=amount, maximum=amount, identifier=_common_pattern(names)
            )
        )

    add("cores", sum(cpu.cores for cpu in hardware.cpus), [cpu.model for cpu in hardware.cpus])
    add("memory", hardware.memory_bytes, [])
    add(
        "storage",
        sum(disk.size_bytes for disk in hardware.disks),
        [disk.name for disk in hardware.disks],
    )
    if hardware.gpus:
        add("gpu", len(hardware.gpus), [gpu.model for gpu in hardware.gpus])
    return tuple(constraints)


def _common_pattern(names: Sequence[str]) -> str:
    """Return a pattern of what all names begin with, or of the one name that they share."""
    shared = _common_start(names)
    if not any(names):
        return "*" if names else ""
    if all(name == shared for name in names):
        return glob.escape(shared)
    return glob.escape(shared) + "*"


def _common_start(names: Sequence[str]) -> str:
    """Return the longest text that all names begin with."""
    if not names:
        return ""
    least, greatest = min(names), max(names)
    length = next(
        (at for at, (one, other) in enumerate(zip(least, greatest, strict=False)) if one != other),
        min(len(least), len(greatest)),
    )
    return least[:length]
