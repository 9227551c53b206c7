# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api import etcd_pb2 as pb
from metropolis.consensus.etcd.messages import EVERYTHING, member, prefix_range

some_bytes = st.lists(st.sampled_from([0, 1, 0x2F, 0x30, 0xFE, 0xFF]), max_size=5).map(bytes)


@given(prefix=some_bytes, key=some_bytes.filter(bool))
def test_a_range_holds_exactly_what_starts_with_its_prefix(prefix: bytes, key: bytes) -> None:
    start, end = prefix_range(prefix)
    assert start, "etcd takes no empty key"
    is_inside = key >= start and (end == EVERYTHING or key < end)
    assert is_inside == key.startswith(prefix)


def test_a_prefix_ends_where_its_last_byte_ends() -> None:
    assert prefix_range(b"/a/") == (b"/a/", b"/a0")
    assert prefix_range(b"a\xff") == (b"a\xff", b"b")
    assert prefix_range(b"") == (b"\0", b"\0")


def test_a_member_without_addresses_has_no_name() -> None:
    assert member(pb.Member(ID=1)).name == ""
