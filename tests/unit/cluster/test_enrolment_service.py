# SPDX-License-Identifier: Apache-2.0
"""How a machine becomes a member and comes back: every order, every repeat, every refusal."""

import pytest

from metropolis.api.common_pb2 import (
    NODE_STATE_NEW,
    NODE_STATE_STANDBY,
    NODE_STATE_UP,
    NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
    NODE_STORAGE_SECURITY_ENCRYPTED,
    NODE_STORAGE_SECURITY_INSECURE,
    NODE_TPM_USAGE_NOT_PRESENT,
    NODE_TPM_USAGE_PRESENT_AND_USED,
    NODE_TPM_USAGE_PRESENT_BUT_UNUSED,
    ClusterConfiguration,
    NodeLabels,
)
from metropolis.api.curator_pb2 import CommitNodeRequest, JoinNodeRequest, RegisterNodeRequest
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    ConfigureClusterRequest,
    DeleteNodeRequest,
)
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from metropolis.cluster.planner.reconfigure import default_configuration
from metropolis.cluster.services.enrolment import commit_node, join_node, register_node
from metropolis.cluster.services.management import approve_node, configure_cluster, delete_node
from metropolis.cluster.state import keys
from metropolis.consensus.store import Put
from metropolis.pki.identity import server_verifier
from metropolis.rpc.peer import Peer, PeerKind
from unit.cluster.harness import FIRST, OWNER, Bench, commit_request, machine, run

NEW, OTHER = machine(2), machine(3)
ANYWAY = DeleteNodeRequest(
    id=NEW.node_id,
    safety_bypass_not_decommissioned=DeleteNodeRequest.SafetyBypassNotDecommissioned(),
)


async def approve(bench: Bench) -> None:
    await approve_node(bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER)


def test_a_machine_registers_is_approved_commits_and_joins() -> None:
    async def scenario(bench: Bench) -> None:
        answer = await register_node(bench.leader, await bench.register_request(NEW), NEW.stranger)
        assert answer.cluster_configuration == default_configuration()
        assert answer.tpm_usage == NODE_TPM_USAGE_PRESENT_AND_USED
        recommended = answer.recommended_node_storage_security
        assert recommended == NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED
        assert (await bench.show(NEW)).state == NODE_STATE_NEW
        await approve(bench)
        await approve(bench)
        assert (await bench.show(NEW)).state == NODE_STATE_STANDBY
        committed = await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        assert (await bench.show(NEW)).state == NODE_STATE_UP
        assert committed.ca_certificate == bench.born.ca_certificate
        server_verifier(committed.ca_certificate, NEW.node_id)(committed.node_certificate)
        joined = await join_node(
            bench.leader, JoinNodeRequest(using_sealed_configuration=True), NEW.joiner
        )
        assert joined.cluster_unlock_key == NEW.unlock_key
        await approve(bench)
        assert (await bench.show(NEW)).state == NODE_STATE_UP

    run(scenario)


def test_every_step_may_be_repeated_after_a_lost_reply() -> None:
    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        first = await register_node(bench.leader, request, NEW.stranger)
        assert await register_node(bench.leader, request, NEW.stranger) == first
        await approve(bench)
        assert await register_node(bench.leader, request, NEW.stranger) == first
        committed = await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        again = await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        assert again == committed
        assert len(await bench.list()) == 2

    run(scenario)


def test_a_new_machine_may_start_over_with_another_join_key() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        request = await bench.register_request(NEW)
        request.join_key = OTHER.join_key
        request.have_local_tpm = True
        await register_node(bench.leader, request, NEW.stranger)
        assert await bench.raw(keys.join_key(NEW.join_key)) is None
        assert await bench.raw(keys.join_key(OTHER.join_key)) == NEW.node_id.encode()

    run(scenario)


def test_an_approved_machine_may_not_start_over_with_another_join_key() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await approve(bench)
        request = await bench.register_request(NEW)
        request.join_key = OTHER.join_key
        with pytest.raises(FailedPreconditionError):
            await register_node(bench.leader, request, NEW.stranger)

    run(scenario)


def test_a_member_cannot_register() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        with pytest.raises(FailedPreconditionError):
            await bench.register(NEW)

    run(scenario)


def test_registering_anew_keeps_what_operators_did_meanwhile() -> None:
    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        request.labels.pairs.add(key="rack", value="1")
        await register_node(bench.leader, request, NEW.stranger)
        request.labels.pairs[0].value = "2"
        request.join_key = OTHER.join_key
        await register_node(bench.leader, request, NEW.stranger)
        assert [pair.value for pair in (await bench.show(NEW)).labels.pairs] == ["1"]

    run(scenario)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"join_key": b"x" * 31}, InvalidArgumentError, id="short join key"),
        pytest.param({"join_key": b""}, InvalidArgumentError, id="no join key"),
        pytest.param({"register_ticket": b""}, PermissionDeniedError, id="no ticket"),
        pytest.param(
            {"register_ticket": b"\x0a\x20" + b"x" * 32}, PermissionDeniedError, id="other ticket"
        ),
        pytest.param({"register_ticket": b"x" * 99}, PermissionDeniedError, id="garbage"),
        pytest.param({"have_local_tpm": False}, PermissionDeniedError, id="no TPM"),
        pytest.param({"join_key": FIRST.join_key}, InvalidArgumentError, id="another's join key"),
    ],
)
def test_a_bad_registration_is_refused_and_leaves_nothing(
    change: dict[str, object], error: type[Exception]
) -> None:
    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        for name, value in change.items():
            setattr(request, name, value)
        with pytest.raises(error):
            await register_node(bench.leader, request, NEW.stranger)
        assert len(await bench.list()) == 1

    run(scenario)


def test_registration_checks_the_caller_before_the_key_before_the_ticket() -> None:
    async def scenario(bench: Bench) -> None:
        anonymous = Peer(kind=PeerKind.ANONYMOUS)
        with pytest.raises(UnauthenticatedError):
            await register_node(bench.leader, RegisterNodeRequest(), anonymous)
        with pytest.raises(UnauthenticatedError):
            await register_node(bench.leader, await bench.register_request(NEW), FIRST.peer)
        with pytest.raises(InvalidArgumentError):
            await register_node(bench.leader, RegisterNodeRequest(), NEW.stranger)
        with pytest.raises(PermissionDeniedError, match="registerticket invalid"):
            await register_node(
                bench.leader, RegisterNodeRequest(join_key=NEW.join_key), NEW.stranger
            )

    run(scenario)


def test_bad_labels_never_keep_a_machine_out() -> None:
    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        request.labels.CopyFrom(
            NodeLabels(
                pairs=[
                    NodeLabels.Pair(key="b", value="1"),
                    NodeLabels.Pair(key="bad key", value="1"),
                    NodeLabels.Pair(key="a", value="2"),
                    NodeLabels.Pair(key="b", value="3"),
                ]
            )
        )
        await register_node(bench.leader, request, NEW.stranger)
        shown = await bench.show(NEW)
        assert [(pair.key, pair.value) for pair in shown.labels.pairs] == [("a", "2"), ("b", "1")]

    run(scenario)


def test_nobody_commits_unapproved() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(NotFoundError):
            await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        await bench.register(NEW)
        with pytest.raises(PermissionDeniedError):
            await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        assert (
            await bench.raw(
                b"namespaced:curator//cluster-pki/issued/node-"
                + NEW.node_id.encode()
                + b"-cert.der"
            )
            is None
        )

    run(scenario)


def test_a_member_commits_again_only_with_the_same_key() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        request = commit_request(NEW)
        request.cluster_unlock_key = OTHER.unlock_key
        with pytest.raises(FailedPreconditionError):
            await commit_node(bench.leader, request, NEW.stranger)
        joined = await join_node(
            bench.leader, JoinNodeRequest(using_sealed_configuration=True), NEW.joiner
        )
        assert joined.cluster_unlock_key == NEW.unlock_key

    run(scenario)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (CommitNodeRequest(cluster_unlock_key=NEW.unlock_key), InvalidArgumentError),
        (
            CommitNodeRequest(
                cluster_unlock_key=NEW.unlock_key,
                storage_security=NODE_STORAGE_SECURITY_INSECURE,
            ),
            FailedPreconditionError,
        ),
        (
            CommitNodeRequest(
                cluster_unlock_key=b"short",
                storage_security=NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
            ),
            InvalidArgumentError,
        ),
    ],
)
def test_a_bad_commit_is_refused(request_: CommitNodeRequest, error: type[Exception]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await approve(bench)
        with pytest.raises(error):
            await commit_node(bench.leader, request_, NEW.stranger)
        with pytest.raises(UnauthenticatedError):
            await commit_node(bench.leader, request_, NEW.peer)
        assert (await bench.show(NEW)).state == NODE_STATE_STANDBY

    run(scenario)


def test_an_insecure_machine_commits_and_joins_without_a_key() -> None:
    configuration = default_configuration()
    configuration.storage_security_policy = (
        ClusterConfiguration.STORAGE_SECURITY_POLICY_NEEDS_INSECURE
    )

    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await approve(bench)
        request = CommitNodeRequest(storage_security=NODE_STORAGE_SECURITY_INSECURE)
        first = await commit_node(bench.leader, request, NEW.stranger)
        assert await commit_node(bench.leader, request, NEW.stranger) == first
        joined = await join_node(
            bench.leader, JoinNodeRequest(using_sealed_configuration=True), NEW.joiner
        )
        assert joined.cluster_unlock_key == b""

    run(scenario, configuration=configuration)


MODES = (
    ClusterConfiguration.TPM_MODE_REQUIRED,
    ClusterConfiguration.TPM_MODE_BEST_EFFORT,
    ClusterConfiguration.TPM_MODE_DISABLED,
)


@pytest.mark.parametrize("has_tpm", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_the_tpm_mode_holds_from_registration_to_join(
    mode: ClusterConfiguration.TPMMode.ValueType, has_tpm: bool
) -> None:
    configuration = default_configuration()
    configuration.tpm_mode = mode
    is_used = has_tpm and mode != ClusterConfiguration.TPM_MODE_DISABLED

    async def scenario(bench: Bench) -> None:
        request = await bench.register_request(NEW)
        request.have_local_tpm = has_tpm
        if mode == ClusterConfiguration.TPM_MODE_REQUIRED and not has_tpm:
            with pytest.raises(PermissionDeniedError):
                await register_node(bench.leader, request, NEW.stranger)
            return
        answer = await register_node(bench.leader, request, NEW.stranger)
        assert answer.tpm_usage == (
            NODE_TPM_USAGE_PRESENT_AND_USED
            if is_used
            else NODE_TPM_USAGE_PRESENT_BUT_UNUSED
            if has_tpm
            else NODE_TPM_USAGE_NOT_PRESENT
        )
        await approve(bench)
        await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        right = JoinNodeRequest(using_sealed_configuration=is_used)
        wrong = JoinNodeRequest(using_sealed_configuration=not is_used)
        assert (await join_node(bench.leader, right, NEW.joiner)).cluster_unlock_key
        with pytest.raises(PermissionDeniedError):
            await join_node(bench.leader, wrong, NEW.joiner)

    run(scenario, configuration=configuration)


def test_only_the_holder_of_a_join_key_of_a_member_joins() -> None:
    async def scenario(bench: Bench) -> None:
        request = JoinNodeRequest(using_sealed_configuration=True)
        with pytest.raises(NotFoundError):
            await join_node(bench.leader, request, NEW.joiner)
        with pytest.raises(PermissionDeniedError):
            await join_node(bench.leader, request, FIRST.peer)
        await bench.register(NEW)
        with pytest.raises(FailedPreconditionError):
            await join_node(bench.leader, request, NEW.joiner)
        await approve(bench)
        with pytest.raises(FailedPreconditionError):
            await join_node(bench.leader, request, NEW.joiner)

    run(scenario)


def test_an_index_that_the_record_does_not_confirm_lets_nobody_in() -> None:
    async def scenario(bench: Bench) -> None:
        put = Put(keys.join_key(NEW.join_key), FIRST.node_id.encode())
        await bench.store.transact([], [put])
        request = JoinNodeRequest(using_sealed_configuration=True)
        with pytest.raises(NotFoundError):
            await join_node(bench.leader, request, NEW.joiner)

    run(scenario)


def test_a_deleted_node_neither_joins_nor_commits_but_may_enrol_anew() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(NEW)
        await delete_node(bench.leader, ANYWAY, OWNER)
        with pytest.raises(NotFoundError):
            await join_node(
                bench.leader, JoinNodeRequest(using_sealed_configuration=True), NEW.joiner
            )
        with pytest.raises(NotFoundError):
            await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        await bench.enrol(NEW)
        assert (await bench.show(NEW)).state == NODE_STATE_UP

    run(scenario)


def test_a_policy_that_came_later_judges_who_has_not_committed_yet() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await approve(bench)
        changed = default_configuration()
        changed.tpm_mode = ClusterConfiguration.TPM_MODE_DISABLED
        request = ConfigureClusterRequest(base_config=default_configuration(), new_config=changed)
        request.update_mask.paths.append("tpm_mode")
        await configure_cluster(bench.leader, request, OWNER)
        with pytest.raises(FailedPreconditionError, match="PRESENT_AND_USED"):
            await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        joined = await join_node(
            bench.leader, JoinNodeRequest(using_sealed_configuration=True), FIRST.joiner
        )
        assert joined.cluster_unlock_key == FIRST.unlock_key  # who is in stays in

    run(scenario)


def test_a_commit_that_was_accepted_survives_a_stricter_policy() -> None:
    lenient = default_configuration()
    lenient.storage_security_policy = ClusterConfiguration.STORAGE_SECURITY_POLICY_PERMISSIVE

    async def scenario(bench: Bench) -> None:
        await bench.register(NEW)
        await approve(bench)
        commit = CommitNodeRequest(
            cluster_unlock_key=NEW.unlock_key, storage_security=NODE_STORAGE_SECURITY_ENCRYPTED
        )
        first = await commit_node(bench.leader, commit, NEW.stranger)
        request = ConfigureClusterRequest(base_config=lenient, new_config=default_configuration())
        request.update_mask.paths.append("storage_security_policy")
        await configure_cluster(bench.leader, request, OWNER)
        assert await commit_node(bench.leader, commit, NEW.stranger) == first

    run(scenario, configuration=lenient)
