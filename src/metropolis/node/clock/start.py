# SPDX-License-Identifier: Apache-2.0
"""Where the clock starts: at the latest of what is known. Pure but for `start_clock`."""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from metropolis.base.errors import MetropolisError
from metropolis.host.time_keeping import ClockSetting
from metropolis.node.storage import CLOCK, NodeStorage
from metropolis.supervision import Logger

LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)  # what says more is broken


class Source(enum.StrEnum):
    """Who was believed; the text is for the log."""

    HARDWARE = "the hardware clock"
    BUILD = "the image's build time"
    SAVED = "the time saved last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the clock started, and who was believed."""

    moment: datetime
    source: Source


def choose_start(
    *, hardware: datetime | None, build: datetime | None, saved: datetime | None, wall: datetime
) -> Start:
    """Return the latest time that anybody knows.

    Args:
        wall: What the kernel's clock says now; it stands in for a hardware clock that is absent.
    """
    known = [Start(moment=wall, source=Source.HARDWARE)]
    for moment, source in (
        (hardware, Source.HARDWARE),
        (build, Source.BUILD),
        (saved, Source.SAVED),
    ):
        if moment is not None:
            known.append(Start(moment=moment, source=source))
    plausible = [each for each in known if each.moment < LATEST] or known[:1]
    return max(plausible, key=lambda start: start.moment)


def encode_saved(moment: datetime) -> bytes:
    """Spell a moment as the saved file has it."""
    return f"{moment.astimezone(UTC).isoformat(timespec='seconds')}\n".encode("ascii")


def decode_saved(data: bytes) -> datetime | None:
    """Read the saved file; None when it is damaged: it only ever helps."""
    try:
        moment = datetime.fromisoformat(data.decode("ascii").strip())
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


async def read_saved(storage: NodeStorage) -> datetime | None:
    """Return the time that was saved last, None if there is none that can be read."""
    try:
        data = await storage.read(CLOCK)
    except (MetropolisError, OSError):
        return None
    return None if data is None else decode_saved(data)


async def start_clock(
    setting: ClockSetting,
    storage: NodeStorage,
    *,
    build_time_s: int,
    wall: datetime,
    log: Logger,
) -> Start:
    """Set the clock as the rule says. Call it once, before anything asks for the time.

    Args:
        build_time_s: Of the image, seconds since 1970; 0 when nobody knows.
    """
    hardware = setting.hardware_time()
    start = choose_start(
        hardware=hardware,
        build=datetime.fromtimestamp(build_time_s, UTC) if build_time_s else None,
        saved=await read_saved(storage),
        wall=wall,
    )
    if start.moment > wall or wall >= LATEST:
        try:
            setting.set_wall(start.moment)
        except MetropolisError as error:
            log.warning("%s", error)
    log.info(
        "The clock starts at %s, by %s%s",
        start.moment.isoformat(timespec="seconds"),
        start.source,
        "" if start.source is Source.HARDWARE else _disbelieved(hardware),
    )
    return start


def _disbelieved(hardware: datetime | None) -> str:
    if hardware is None:
        return ": there is no hardware clock"
    said = hardware.isoformat(timespec="seconds")
    return f": the hardware clock says {said}, which cannot be; check its battery"
