# SPDX-License-Identifier: Apache-2.0
"""The local etcd member as a runnable."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    MetropolisError,
    UnavailableError,
    chain,
)
from metropolis.base.ids import NodeId
from metropolis.consensus.etcd.membership import EtcdMembership
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.member.arguments import (
    ENVIRONMENT,
    SOCKET_NAME,
    MemberPaths,
    etcd_arguments,
)
from metropolis.consensus.member.complaints import ListeningParser
from metropolis.consensus.member.crl import refresh_crl
from metropolis.consensus.member.files import MemberFiles, Record
from metropolis.consensus.member.promoter import promote_learners
from metropolis.consensus.member.start import Bootstrap, Join, Restart, Start
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.host import Host, ProcessSpec
from metropolis.pki.certificates import fingerprint
from metropolis.rpc.channel import Channel
from metropolis.supervision import Context, Value
from metropolis.supervision.process import ProcessExitedError, run_process

EPHEMERAL_DIRECTORY: Final = "consensus"
SOCKET_PATH_BYTES_MAX: Final = 107  # sockaddr_un, without the final zero
_POLL_S: Final = 0.2  # how often a member that is not ready yet is asked again
_ANY_KEY: Final = b"linearizable"  # reading it proves a majority, whether it exists or not


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """Where and as whom the member runs.

    Attributes:
        binary: Path of the etcd program.
        start: How it comes to be.
        listen_host: Literal address that peers are accepted on.
        metrics_host: Literal loopback address of the metrics.
        root: Path in the host's storage that is the member's alone.
        crl_key: Where the store holds the list of refused peers (DER); empty keeps the first one.
    """

    node_id: NodeId
    binary: str
    start: Start = field(repr=False)
    listen_host: str = "::"
    metrics_host: str = "127.0.0.1"
    root: str = "etcd"
    crl_key: bytes = b""


@final
class EtcdMember:
    """Runs etcd below a runnable's context.

    Args:
        dial: Opens a channel to a unix socket (absolute path), without TLS.
        status: Set while the member votes and answers; None at all other times.
    """

    def __init__(
        self,
        config: MemberConfig,
        *,
        host: Host,
        dial: Callable[[str], Channel],
        status: Value[ConsensusStatus | None],
    ) -> None:
        self._config = config
        self._host = host
        self._dial = dial
        self._status = status
        self._files = MemberFiles(host.storage, root=config.root)
        self._peers = config.start.peers if isinstance(config.start, Join) else ()

    async def run(self, ctx: Context) -> None:
        """Be the member until cancelled; HEALTHY once it votes and answers.

        Raises:
            FailedPreconditionError: the data on disk is not this member's, see the remedy.
        """
        await self._host.ephemeral.make_directory(EPHEMERAL_DIRECTORY)
        channel = self._dial(self._socket_path())
        try:
            store = EtcdStore(channel)
            self._status.set(None)
            ctx.run_group(
                {
                    "etcd": functools.partial(self._etcd, store=store),
                    "watch": functools.partial(
                        self._watch, store=store, membership=EtcdMembership(channel)
                    ),
                }
            )
            ctx.run("promoter", functools.partial(promote_learners, status=self._status))
            if key := self._config.crl_key:
                refresh = functools.partial(
                    refresh_crl, status=self._status, key=key, files=self._files
                )
                ctx.run("crl", refresh)
            await self._status.wait_for(lambda status: status is not None)
            ctx.healthy()
            await ctx.wait_cancelled()
        finally:
            self._status.set(None)
            await channel.close()

    async def _etcd(self, ctx: Context, *, store: EtcdStore) -> None:
        """Prepare the files and run the program, anew at every restart of the group."""
        await self._prepare(ctx)
        listener = ListeningParser()
        directory = self._host.ephemeral.absolute(EPHEMERAL_DIRECTORY)
        becomes_only_one = await self._files.is_to_be_alone()
        if becomes_only_one:
            await self._check_can_be_alone()
            ctx.log.warning("Becoming the only member of the consensus, as the owner has ordered")
        spec = ProcessSpec(
            argv=[self._config.binary, *self._arguments(becomes_only_one=becomes_only_one)],
            environment=ENVIRONMENT,
            working_directory=directory,
        )

        async def answers() -> bool:
            await store.status()
            return True

        runnable = run_process(spec, processes=self._host.processes, probe=answers, parser=listener)
        try:
            await runnable(ctx)
        except ProcessExitedError as exited:
            if listener.was_removed and isinstance(self._config.start, Join):
                # A member id that was removed never comes back; this node was invited anew.
                ctx.log.warning(
                    "The data on disk is that of a member that was removed; starting without it"
                )
                await self._files.wipe_data()
            if actual := listener.actual_members:
                # Somebody came or went between our invitation and now: expect those there are.
                self._peers = actual
            error = listener.error()
            if error is None:
                raise
            raise error from exited

    async def _prepare(self, ctx: Context) -> None:
        """Write what etcd reads, and make sure that its data is this member's."""
        files, start = self._files, self._config.start
        record = await files.read_record()
        if record is not None:
            ca = None if isinstance(start, Restart) else fingerprint(start.identity.ca_certificate)
            files.check_owner(record, node_id=self._config.node_id, ca=ca)
            if not await files.has_data():
                raise DataLossError(
                    "the consensus data of this node is gone",
                    remedy="Remove the ConsensusMember role from this node and add it again. If "
                    "this is the only member, restore its disk: the cluster's state was on it.",
                )
        elif isinstance(start, Bootstrap) and await files.has_data():
            # etcd may have died between creating its log and writing the first entry, and would
            # wait for ever; nobody was told of this consensus yet, so it can start over.
            ctx.log.info("Starting the bootstrap over: its outcome was never published")
            await files.wipe_data()
        elif isinstance(start, Restart) and not await files.has_data():
            raise FailedPreconditionError(
                "this node has no consensus data to restart from",
                remedy="Add the ConsensusMember role to this node.",
            )
        if not isinstance(start, Restart):
            await files.write_identity(start.identity)

    async def _check_can_be_alone(self) -> None:
        """Refuse where nothing was ever agreed upon: etcd would found an empty consensus."""
        if await self._files.read_record() is None:
            raise FailedPreconditionError(
                "this node holds no data of the consensus that could be gone on with",
                remedy="Recover with another member, or restore a backup.",
            )

    def _arguments(self, *, becomes_only_one: bool) -> list[str]:
        start, files = self._config.start, self._files
        paths = MemberPaths(
            data=files.absolute(files.data),
            ca=files.absolute(files.ca),
            certificate=files.absolute(files.certificate),
            key=files.absolute(files.key),
            crl=files.absolute(files.crl),
        )
        return list(
            etcd_arguments(
                node_id=self._config.node_id,
                paths=paths,
                listen_host=self._config.listen_host,
                metrics_host=self._config.metrics_host,
                peers=self._peers,
                is_founding=isinstance(start, Bootstrap),
                becomes_only_one=becomes_only_one,
            )
        )

    async def _watch(self, ctx: Context, *, store: EtcdStore, membership: EtcdMembership) -> None:
        """Publish the member while it votes and answers."""
        try:
            member_id = await self._wait_voting(ctx, store)
            ca = await self._files.ca_fingerprint()
            # Before anybody may write: from here on the data counts and is never started over.
            await self._files.write_record(Record(node_id=self._config.node_id, ca=ca))
            await self._files.is_alone_now()
            self._status.set(
                ConsensusStatus(store=store, membership=membership, member_id=member_id)
            )
            ctx.log.info("Consensus member %x votes and answers", member_id)
            ctx.healthy()
            await ctx.wait_cancelled()
        finally:
            self._status.set(None)

    async def _wait_voting(self, ctx: Context, store: EtcdStore) -> int:
        """Return the member id once it is no learner and a linearizable read works."""
        said = ""
        while True:
            member_id, waiting_for = await _readiness(store)
            if not waiting_for:
                return member_id
            if waiting_for != said:
                ctx.log.info("Waiting for %s", waiting_for)
                said = waiting_for
            await asyncio.sleep(_POLL_S)

    def _socket_path(self) -> str:
        path = self._host.ephemeral.absolute(f"{EPHEMERAL_DIRECTORY}/{SOCKET_NAME}")
        if len(path.encode()) > SOCKET_PATH_BYTES_MAX:
            raise FailedPreconditionError(
                f"{path} is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a socket's path",
                remedy="Keep the node's run-time files in a directory with a shorter path.",
            )
        return path


async def _readiness(store: EtcdStore) -> tuple[int, str]:
    """Return the member id and what it still waits for; an empty text when nothing."""
    try:
        status = await store.status()
    except UnavailableError:
        return 0, "etcd to start, which takes a majority of the members"
    except MetropolisError as error:
        return 0, f"etcd: {chain(error)}"
    if status.is_learner:
        return status.member_id, "the promotion of this learner, once it has caught up"
    try:
        await store.get(_ANY_KEY)
    except MetropolisError as error:
        return status.member_id, f"a majority of the members: {chain(error)}"
    return status.member_id, ""
