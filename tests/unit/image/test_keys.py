# SPDX-License-Identifier: Apache-2.0
"""Builder keys: made once, unreadable for others, outside of the checkout."""

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.formats.efi import authentication, signature_database
from metropolis.formats.efi.variables import ALLOWED, KEY_EXCHANGE_KEYS, PLATFORM_KEY
from metropolis.image.enrolment import enrolment_files
from metropolis.image.keys import KEY_NAMES, BuilderKey, default_key_directory, open_keys


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("home") / "builder"
    open_keys(place, checkout=Path("/nonexistent"))
    return place


@pytest.fixture(scope="module")
def keys(directory: Path) -> Mapping[str, BuilderKey]:
    return open_keys(directory, checkout=Path("/nonexistent"))


def test_keys_are_made_once_and_only_their_owner_can_read_them(
    directory: Path, keys: Mapping[str, BuilderKey]
) -> None:
    again = open_keys(directory, checkout=Path("/nonexistent"))
    assert list(again) == list(KEY_NAMES)
    assert {n: k.fingerprint for n, k in again.items()} == {
        n: k.fingerprint for n, k in keys.items()
    }
    assert len({key.fingerprint for key in keys.values()}) == len(KEY_NAMES)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("*.key")}
    assert modes == {0o600}


def test_their_certificates_outlive_everybody(keys: Mapping[str, BuilderKey]) -> None:
    for key in keys.values():
        assert key.certificate.not_valid_before_utc.year == 2000
        assert key.certificate.not_valid_after_utc.year == 9999


def test_signatures_are_the_same_every_time(keys: Mapping[str, BuilderKey]) -> None:
    assert keys["db"].sign(b"image") == keys["db"].sign(b"image") != keys["KEK"].sign(b"image")


def test_keys_inside_of_the_checkout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="checkout"):
        open_keys(tmp_path / "keys", checkout=tmp_path)
    assert not (tmp_path / "keys").exists()


def test_a_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "keys"
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    with pytest.raises(FailedPreconditionError, match="others can read"):
        open_keys(place, checkout=Path("/nonexistent"))


def copied(directory: Path, place: Path) -> Path:
    place.mkdir(mode=0o700)
    for path in directory.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def test_a_lost_key_is_named_and_never_made_anew_beside_old_ones(
    directory: Path, tmp_path: Path
) -> None:
    place = copied(directory, tmp_path / "keys")
    (place / "db.key").unlink()
    with pytest.raises(DataLossError, match="but not db"):
        open_keys(place, checkout=Path("/nonexistent"))
    assert not (place / "db.key").exists()


def test_a_key_that_is_not_its_certificates_is_refused(directory: Path, tmp_path: Path) -> None:
    place = copied(directory, tmp_path / "keys")
    (place / "db.key").write_bytes((place / "KEK.key").read_bytes())
    with pytest.raises(DataLossError, match="does not belong"):
        open_keys(place, checkout=Path("/nonexistent"))
    (place / "db.key").write_bytes(b"nonsense")
    with pytest.raises(DataLossError, match="cannot be read"):
        open_keys(place, checkout=Path("/nonexistent"))


def test_the_configuration_directory_is_followed() -> None:
    assert default_key_directory({"HOME": "/home/me"}) == Path(
        "/home/me/.config/metropolis/builder"
    )
    assert default_key_directory({"XDG_CONFIG_HOME": "/c"}) == Path("/c/metropolis/builder")


def test_a_firmware_takes_the_values_in_the_order_of_their_signers(
    keys: Mapping[str, BuilderKey],
) -> None:
    files = enrolment_files(keys)
    assert files == enrolment_files(keys), "the same bytes every time"
    for variable, name, signer in (
        (PLATFORM_KEY, "PK", "PK"),
        (KEY_EXCHANGE_KEYS, "KEK", "PK"),
        (ALLOWED, "db", "KEK"),
    ):
        content = files[f"{name}.auth"]
        authentication.verify(variable, content, certificate_der=keys[signer].certificate_der)
        (entry,) = signature_database.decode(authentication.decode(content).value)
        assert entry.data == keys[name].certificate_der
    assert not any(b"PRIVATE" in content for content in files.values())
