# SPDX-License-Identifier: Apache-2.0
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.pki.secret import Secret
from metropolis.pki.unlock import ClusterUnlockKey, DiskKey, NodeUnlockKey, disk_key

SECRETS = st.binary(min_size=32, max_size=32)
KINDS = (ClusterUnlockKey, DiskKey, NodeUnlockKey)


@given(SECRETS, SECRETS)
def test_the_disk_key_needs_both_halves(node: bytes, cluster: bytes) -> None:
    key = disk_key(NodeUnlockKey(node), ClusterUnlockKey(cluster))
    assert key.data == (int.from_bytes(node) ^ int.from_bytes(cluster)).to_bytes(32)
    again = disk_key(NodeUnlockKey(node), ClusterUnlockKey(key.data))  # XOR undoes itself
    assert again.data == cluster


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_cannot_be_built(kind: type[Secret], length: int) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        kind(bytes(length))
    assert caught.value.remedy


@pytest.mark.parametrize("kind", KINDS)
def test_keys_compare_by_kind_and_content_and_never_show_it(kind: type[Secret]) -> None:
    key = kind(random.Random(1).randbytes(32))
    assert key == kind(key.data)
    assert key != kind(bytes(32))
    assert all(key != other(key.data) for other in KINDS if other is not kind)
    assert key.data.hex() not in repr(key)
    assert repr(key) == f"{kind.__name__}()"


def test_keys_cannot_be_looked_up_in_tables() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(DiskKey(bytes(32)))  # a lookup would compare byte by byte
