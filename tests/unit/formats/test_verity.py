# SPDX-License-Identifier: Apache-2.0
"""Our hash tree is the kernel's: veritysetup computes the same one."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError
from metropolis.formats.verity import BLOCK_BYTES, hash_tree, tree_bytes, verify

SALT = bytes(range(32))


def _data(blocks: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") * (BLOCK_BYTES // 4) for number in range(blocks))


@pytest.mark.parametrize("blocks", [2, 128, 129, 128 * 128 + 1])
def test_veritysetup_agrees(tmp_path: Path, blocks: int) -> None:
    data = _data(blocks)
    (tmp_path / "data").write_bytes(data)
    said = subprocess.run(
        [
            *("/usr/sbin/veritysetup", "format", "--no-superblock", "--salt", SALT.hex()),
            *(tmp_path / "data", tmp_path / "tree"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = hash_tree([data], SALT)
    assert found.root_hash.hex() in said
    assert found.tree == (tmp_path / "tree").read_bytes()
    assert found.data_blocks == blocks


@given(st.integers(2, 300))
@settings(max_examples=20)
def test_the_tree_is_as_long_as_foretold(blocks: int) -> None:
    assert len(hash_tree([_data(blocks)], SALT).tree) == tree_bytes(blocks)


def test_pieces_make_no_difference() -> None:
    data = _data(9)
    pieces = [data[: 4 * BLOCK_BYTES], data[4 * BLOCK_BYTES :]]
    assert hash_tree(pieces, SALT) == hash_tree([data], SALT)


@pytest.mark.parametrize("data", [b"", bytes(BLOCK_BYTES), bytes(2 * BLOCK_BYTES + 1)])
def test_what_is_no_two_blocks_has_no_tree(data: bytes) -> None:
    with pytest.raises(ValueError, match="blocks"):
        hash_tree([data], SALT)


def test_a_flipped_bit_is_found_and_located() -> None:
    data = _data(200)
    tree = hash_tree([data], SALT)
    verify([data], tree=tree.tree, root_hash=tree.root_hash, salt=SALT)
    flipped = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
    with pytest.raises(DataLossError, match="the data is damaged"):
        verify([flipped], tree=tree.tree, root_hash=tree.root_hash, salt=SALT)
    with pytest.raises(DataLossError, match="the hash tree is damaged"):
        verify([data], tree=tree.tree[:-1] + b"\1", root_hash=tree.root_hash, salt=SALT)
    with pytest.raises(DataLossError, match="root hash"):
        verify([data], tree=tree.tree, root_hash=bytes(32), salt=SALT)
