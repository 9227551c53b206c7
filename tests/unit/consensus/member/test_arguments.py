# SPDX-License-Identifier: Apache-2.0
"""etcd's command line, held against what clients of the original and etcd itself expect."""

from metropolis.base.ids import NodeId
from metropolis.consensus.member.arguments import MemberPaths, etcd_arguments
from metropolis.consensus.member.start import ExistingPeer

NODE_ID = NodeId("metropolis-" + "1" * 32)
OTHER = NodeId("metropolis-" + "2" * 32)
PATHS = MemberPaths(data="/d/data", ca="/d/ca", certificate="/d/c", key="/d/k", crl="/d/crl")


def flags(
    *,
    is_founding: bool = True,
    peers: tuple[ExistingPeer, ...] = (),
    becomes_only_one: bool = False,
) -> dict[str, str]:
    arguments = etcd_arguments(
        node_id=NODE_ID,
        paths=PATHS,
        listen_host="::",
        metrics_host="127.0.0.1",
        peers=peers,
        is_founding=is_founding,
        becomes_only_one=becomes_only_one,
    )
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


def test_peers_meet_on_the_documented_port_under_node_ids_with_mutual_tls() -> None:
    found = flags()
    assert found["name"] == NODE_ID
    assert found["initial-advertise-peer-urls"] == f"https://{NODE_ID}:7834"
    assert found["listen-peer-urls"] == "https://[::]:7834"
    assert found["peer-client-cert-auth"] == "true"
    assert found["peer-crl-file"] == "/d/crl"
    assert found["initial-cluster-token"] == "METROPOLIS"


def test_clients_have_a_unix_socket_and_metrics_a_loopback_address_only() -> None:
    found = flags()
    assert found["listen-client-urls"] == "unix://client.sock:0"
    assert found["advertise-client-urls"] == "unix://client.sock:0"
    assert found["listen-metrics-urls"] == "http://127.0.0.1:7842"


def test_a_founder_is_alone_and_an_invited_member_names_everybody_once() -> None:
    founder = flags()
    assert founder["initial-cluster-state"] == "new"
    assert founder["initial-cluster"] == f"{NODE_ID}=https://{NODE_ID}:7834"
    peers = (
        ExistingPeer(name=OTHER, url=f"https://{OTHER}:7834"),
        ExistingPeer(name=NODE_ID, url="https://stale:7834"),
    )
    invited = flags(is_founding=False, peers=peers)
    assert invited["initial-cluster-state"] == "existing"
    assert invited["initial-cluster"] == (
        f"{OTHER}=https://{OTHER}:7834,{NODE_ID}=https://{NODE_ID}:7834"
    )


def test_nothing_that_loses_data_is_switched_on() -> None:
    assert not [name for name in flags() if name.startswith(("unsafe", "force"))]


def test_only_who_was_ordered_to_be_alone_forgets_the_others() -> None:
    assert flags(becomes_only_one=True)["force-new-cluster"] == "true"
    assert "force-new-cluster" not in flags(becomes_only_one=False)
