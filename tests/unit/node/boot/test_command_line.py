# SPDX-License-Identifier: Apache-2.0
import pytest

from metropolis.base.errors import InvalidArgumentError
from metropolis.node.boot.command_line import describe_root, parse_command_line

ROOT = "00112233445566778899aabbccddeeff" + "5" * 32
GOOD = f"metropolis.root={ROOT} metropolis.blocks=77 metropolis.salt={'a' * 64} quiet panic=5"


def test_the_partition_is_named_by_the_first_half_of_the_root_hash() -> None:
    root = describe_root(parse_command_line(GOOD))
    assert root.partition_guid == "00112233-4455-6677-8899-aabbccddeeff"
    assert (root.data_blocks, root.salt) == (77, "a" * 64)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (GOOD.replace(ROOT, "5"), "metropolis.root="),
        (GOOD.replace("metropolis.root", "root"), "metropolis.root="),
        (GOOD.replace("blocks=77", "blocks=0"), "metropolis.blocks="),
        (GOOD.replace("blocks=77", "blocks=-7"), "metropolis.blocks="),
        (GOOD.replace("a" * 64, "A" * 64), "metropolis.salt="),
        ("", "metropolis.root="),
    ],
)
def test_what_is_wrong_is_named(wrong: str, named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named) as caught:
        describe_root(parse_command_line(wrong))
    assert caught.value.remedy
