# SPDX-License-Identifier: Apache-2.0
"""From nothing, or from wherever a launch was interrupted, to a cluster of HEALTHY nodes.

    directory, context, owner key ─▶ node 0: bootstrap ─▶ keeper ─▶ own the cluster
      ─▶ ticket: parameters of the others ─▶ until nothing is left to do:
           approve who is NEW ─ give roles to who is UP ─ wait for votes and health

Virtual machines are all switched on at the beginning: those that wait for their parameters get
them while they run. Processes are switched on when they have them.

Every step looks first whether it was done, so killing this anywhere does no harm: run it again.
Once it has come to its end (`is_launched`), roles and nodes are the operator's business, and a
launch only waits for health.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from metropolis.api import curator_pb2
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    MetropolisError,
    UnavailableError,
)
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import contexts, credentials, nodes, ownership
from metropolis.ctl.connection import Cluster, connect
from metropolis.ctl.contexts import Context
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab import parameters
from metropolis.lab.cluster import LabCluster
from metropolis.lab.model import NAMESPACE_DRIVER, QEMU_DRIVER, Rack, plan_roles
from metropolis.lab.plan import by_number, plan_launch, plan_start
from metropolis.lab.probe import is_port_open
from metropolis.lab.progress import Progress
from metropolis.lab.qemu.arguments import MEMORY
from metropolis.lab.rack_context import rack_context, remove_rack_context
from metropolis.node.storage import CA_CERTIFICATE
from metropolis.pki import certificates, keys

LAUNCH_TIMEOUT_S: Final = 180.0
POLL_S: Final = 0.1
ASK_AGAIN_S: Final[Mapping[str, float]] = {
    NAMESPACE_DRIVER: 0.1,
    QEMU_DRIVER: 0.4,  # an answer costs an emulated processor 50 ms, which its own work lacks
}
BOOTS_MAX: Final = 5  # of one machine during a launch; more is a crash loop that no wait will end
_CALL_TIMEOUT_S: Final = 10.0
_CONSOLE_LINES: Final = 5
_CONSOLE_LINES_SEARCHED: Final = 1000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One run of a launch.

    Attributes:
        contexts_root: Where the operator's contexts are.
        timeout_s: Of the whole launch; what it did until then stays, and is continued next time.
    """

    cluster: LabCluster
    contexts_root: Path
    progress: Progress
    timeout_s: float = LAUNCH_TIMEOUT_S

    async def run(self) -> Sequence[Node]:
        """Bring the cluster up; return its nodes, all of them HEALTHY.

        Raises:
            DeadlineExceededError: not in time; the message names what was awaited.
            MetropolisError: what an operator must mend first.
        """
        context = await self.prepare()
        if not self.cluster.is_running:
            check_frozen(self.cluster)
        rack = self.cluster.start()
        awaited = _Awaited()
        try:
            async with asyncio.timeout(self.timeout_s):
                if not context.is_owner:
                    await self._own(context, awaited)
                return await self._bring_up(rack, awaited)
        except TimeoutError:
            raise DeadlineExceededError(
                f"cluster {rack.name!r} is not ready after {self.timeout_s:.0f} s: "
                f"still waiting for {awaited.what}",
                remedy="Run the command again to go on, or look at "
                f"`metropolis status --name {rack.name}` and "
                f"{self.cluster.directory.console(awaited.number)}.",
            ) from None

    async def prepare(self) -> Context:
        """Make the owner's key and context, and what node 0 needs to found the cluster.

        Raises:
            FailedPreconditionError: a context of that name belongs to another cluster.
        """
        rack = self.cluster.rack
        context = cluster_context(self.contexts_root, rack)
        if rack.owner_key is None:
            key = credentials.create_owner_key(context, LinuxEntropy())
            rack = replace(rack, owner_key=keys.raw_public_key(key).hex())
            self.cluster.directory.write(rack)
        if rack.driver == QEMU_DRIVER:
            from metropolis.lab.qemu.preparation import prepare_machines  # noqa: PLC0415  # only the driver qemu needs it

            await prepare_machines(rack, self.cluster.directory)
        if not parameters.has_parameters(self.cluster.directory, 0):
            key = credentials.read_owner_key(context)
            founding = parameters.bootstrap_parameters(
                owner_public_key=keys.raw_public_key(key), driver=rack.driver
            )
            await parameters.write_parameters(self.cluster.directory, 0, founding)
        if rack.driver == QEMU_DRIVER and not self.cluster.is_running:
            await parameters.make_disks(rack, self.cluster.directory)
        return context

    async def _own(self, context: Context, awaited: "_Awaited") -> None:
        """Take ownership of the cluster that node 0 founds, and make its context current."""
        rack = self.cluster.rack
        context = replace(context, endpoints=(rack.address(0),), proxy=rack.proxy)
        awaited.say(self.progress, f"the API of node 0 ({rack.address(0)})", number=0)
        while not await is_port_open(rack.proxy_tcp_port, rack.address(0), CURATOR_TCP_PORT):
            await self._check_machines(awaited)
            await asyncio.sleep(POLL_S)
        awaited.say(self.progress, "node 0 to show its cluster's CA", number=0)
        while not self._shows_ca():  # a console is a moment behind the API
            await self._check_machines(awaited)
            await asyncio.sleep(POLL_S)
        awaited.say(self.progress, "node 0 to lead its cluster", number=0)
        while True:
            try:
                await ownership.take_ownership(context, accept_ca=self._is_ca_of_node_0)
                break
            except MetropolisError as error:
                if not error.retryable:
                    raise
            await self._check_machines(awaited)
            await asyncio.sleep(ASK_AGAIN_S[rack.driver])
        self.progress.say(f"took ownership; metroctl knows the cluster as context {rack.name!r}")

    async def _bring_up(self, rack: Rack, awaited: "_Awaited") -> Sequence[Node]:
        """Do whatever is left to do, until nothing is."""
        context = write_context(self.contexts_root, self.cluster.rack)
        contexts.select(self.contexts_root, rack.name)
        async with connect(context, timeout_s=_CALL_TIMEOUT_S) as connection:
            telling: Sequence[asyncio.Task[None]] = ()
            if not rack.is_launched:
                telling = await self._tell_others(connection, awaited)
            try:
                found = await self._until_healthy(connection, rack, awaited, telling)
            finally:
                for task in telling:
                    task.cancel()
                await asyncio.gather(*telling, return_exceptions=True)
        members = by_number(rack, found)
        await self.cluster.learn_node_ids({number: node.id for number, node in members.items()})
        if not rack.is_launched:
            self.cluster.directory.write(replace(self.cluster.rack, is_launched=True))
        self.progress.clear()
        return found

    async def _until_healthy(
        self,
        connection: Cluster,
        rack: Rack,
        awaited: "_Awaited",
        telling: Sequence[asyncio.Task[None]],
    ) -> Sequence[Node]:
        """Do whatever is left to do; return the nodes."""
        awaited.say(self.progress, "the control plane to answer")
        while True:
            for task in telling:
                if task.done():
                    task.result()  # a machine that refuses what it is told ends the launch
            try:
                found = await nodes.list_nodes(connection.channel, timeout_s=_CALL_TIMEOUT_S)
                next_awaited = await self._step(connection, rack, found)
            except MetropolisError as error:
                if not error.retryable:
                    raise
                next_awaited = "the cluster to have a leader"
            else:
                if next_awaited is None:
                    return found
            awaited.say(self.progress, next_awaited)
            await self._check_machines(awaited)
            await asyncio.sleep(ASK_AGAIN_S[rack.driver])

    async def _step(self, connection: Cluster, rack: Rack, found: Sequence[Node]) -> str | None:
        """Do what can be done now; return what is awaited next, or None at the end."""
        if rack.is_launched:
            return plan_start(rack, found).awaited
        plan = plan_launch(rack, found, voters=await _count_voters(connection))
        for node in plan.approve:
            await nodes.approve_node(connection.channel, node, timeout_s=_CALL_TIMEOUT_S)
            self.progress.say(f"approved {node.id}")
        awaited = plan.awaited
        for each in plan.add_roles:
            roles = ", ".join(each.names)
            try:
                await nodes.update_roles(
                    connection.channel, each.node_id, add=each.names, timeout_s=_CALL_TIMEOUT_S
                )
            except UnavailableError as error:  # the consensus takes in one member at a time
                awaited = f"node {each.number} to get its roles ({error})"
                continue
            self.progress.say(f"node {each.number}, {each.node_id}: {roles}")
        return awaited

    async def _tell_others(
        self, connection: Cluster, awaited: "_Awaited"
    ) -> Sequence[asyncio.Task[None]]:
        """Tell every other machine to register: before it is switched on, or while it waits.

        Return what goes on offering; of a machine that was told in an earlier run, for ever.
        """
        rack, directory = self.cluster.rack, self.cluster.directory
        missing = [
            number for number in rack.numbers if not parameters.has_parameters(directory, number)
        ]
        waiting = [
            number
            for number in rack.numbers[1:]
            if rack.driver == QEMU_DRIVER and number not in missing
        ]
        if not missing and not waiting:
            return ()
        awaited.say(self.progress, "the register ticket")
        ticket = await _patiently(
            lambda: nodes.register_ticket(connection.channel, timeout_s=_CALL_TIMEOUT_S)
        )
        awaited.say(self.progress, "node 0 to report its address")
        while True:
            info = await _patiently(
                lambda: nodes.cluster_info(connection.channel, timeout_s=_CALL_TIMEOUT_S)
            )
            if any(node.addresses for node in info.cluster_directory.nodes):
                break
            await asyncio.sleep(ASK_AGAIN_S[rack.driver])
        joining = parameters.register_parameters(info, ticket=ticket)
        for number in missing:
            await parameters.write_parameters(directory, number, joining)
            await self.cluster.power(number, "on")
        if not waiting:
            return ()
        from metropolis.lab.qemu.late_parameters import hand_over  # noqa: PLC0415  # only who needs it

        told = joining.SerializeToString(deterministic=True)
        return [asyncio.create_task(hand_over(directory.node(each), told)) for each in waiting]

    async def _check_machines(self, awaited: "_Awaited") -> None:
        """Stop waiting for machines that only crash.

        Raises:
            FailedPreconditionError: one of them does; the message holds its last words.
        """
        for machine in await self.cluster.status():
            if machine.boots - awaited.boots.setdefault(machine.number, machine.boots) >= BOOTS_MAX:
                last = " | ".join(self.cluster.console(machine.number, lines=_CONSOLE_LINES))
                raise FailedPreconditionError(
                    f"node {machine.number} ends again and again with code {machine.last_exit}: "
                    f"{last}",
                    remedy=f"Read {self.cluster.directory.console(machine.number)}, mend the "
                    "cause, then run the command again.",
                )

    def _shows_ca(self, words: str = "cluster CA sha256:") -> bool:
        """Tell whether node 0 has said, on its disk or on its console, what its CA is."""
        if self.cluster.rack.driver == QEMU_DRIVER:
            console = self.cluster.console(0, lines=_CONSOLE_LINES_SEARCHED)
            return any(words in line for line in console)
        return self._ca_file.exists()

    def _is_ca_of_node_0(self, ca: bytes) -> bool:
        """Trust the CA that node 0 says it has, on its disk or on its console.

        Both are nearer to us than any network.
        """
        if self.cluster.rack.driver == QEMU_DRIVER:
            return self._shows_ca(f"cluster CA sha256:{hashlib.sha256(ca).hexdigest()}")
        with contextlib.suppress(OSError, MetropolisError):
            return certificates.from_pem(self._ca_file.read_bytes()) == ca
        return False

    @property
    def _ca_file(self) -> Path:
        return self.cluster.directory.storage(0) / CA_CERTIFICATE.path


class _Awaited:
    """What the launch waits for, for its last words."""

    def __init__(self) -> None:
        self.what = "its first step"
        self.number = 0
        self.boots: dict[int, int] = {}

    def say(self, progress: Progress, what: str, *, number: int = 0) -> None:
        self.what = what
        self.number = number
        progress.awaiting(what)


def check_frozen(cluster: LabCluster) -> None:
    """Require that an encrypted cluster which is off was frozen, not cut.

    Raises:
        FailedPreconditionError: too few of its machines were.
    """
    rack = cluster.rack
    if rack.driver != QEMU_DRIVER or not rack.is_launched:
        return
    voters = [
        number for number, roles in enumerate(plan_roles(rack.count)) if roles.consensus_member
    ]
    frozen = [number for number in voters if (cluster.directory.node(number) / MEMORY).exists()]
    if len(frozen) <= len(voters) // 2:
        raise FailedPreconditionError(
            f"the nodes of {rack.name!r} lost their power all at once, and an encrypted cluster "
            "cannot open its disks yet without a majority that runs",
            remedy=f"Run `metropolis destroy --name {rack.name}` and launch a new one; "
            "next time end it with `metropolis stop`.",
        )


def cluster_context(root: Path, rack: Rack) -> Context:
    """Return the context of a cluster, made if it does not exist.

    Raises:
        FailedPreconditionError: there is one of that name, of another cluster; or ours is gone.
    """
    if rack.is_blank:
        return rack_context(root, rack)
    name = rack.name
    if name not in contexts.names(root):
        if rack.owner_key is not None:
            raise FailedPreconditionError(
                f"the owner key of cluster {name!r} is not in {root}",
                remedy="Set XDG_CONFIG_HOME as it was at the first launch, or destroy the cluster.",
            )
        return write_context(root, rack)
    context = contexts.load(root, name)
    if rack.owner_key is None:
        is_ours = not context.is_owner  # perhaps of a launch that was killed right here
    else:
        key = credentials.read_owner_key(context)
        is_ours = keys.raw_public_key(key).hex() == rack.owner_key
    if not is_ours:
        raise FailedPreconditionError(
            f"there is a context named {name!r} already, of another cluster",
            remedy=f"Give another --name, or run `metroctl context remove {name}`.",
        )
    return context


def write_context(root: Path, rack: Rack) -> Context:
    """Write how the cluster is reached; its keys are not touched."""
    return contexts.create(
        root,
        rack.name,
        endpoints=[rack.address(number) for number in rack.numbers],
        proxy=rack.proxy,
        cluster_domain=parameters.CLUSTER_DOMAIN,
    )


def remove_context(root: Path, rack: Rack) -> None:
    """Delete the cluster's context with its keys, if it is the cluster's."""
    with contextlib.suppress(MetropolisError):
        if rack.is_blank:
            remove_rack_context(root, rack)
        elif rack.owner_key is not None and rack.name in contexts.names(root):
            cluster_context(root, rack)
            contexts.remove(root, rack.name)


async def _count_voters(connection: Cluster) -> int:
    status = await connection.channel.call(
        Curator.GET_CONSENSUS_STATUS,
        curator_pb2.GetConsensusStatusRequest(),
        timeout_s=_CALL_TIMEOUT_S,
    )
    full = curator_pb2.GetConsensusStatusResponse.EtcdMember.STATUS_FULL
    return sum(member.status == full for member in status.etcd_member)


async def _patiently(call: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat a reading call while the cluster has no leader."""
    while True:
        try:
            return await call()
        except MetropolisError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(POLL_S)
