# SPDX-License-Identifier: Apache-2.0
"""Write the parts of the documentation that are drawn from the code.

    python tools/handbook.py            rewrite them in docs/
    python tools/handbook.py --check    exit 1 and say what differs, write nothing

A page marks such a part by two comments; what stands between them is replaced:

    <!-- generated: NAME -->
    <!-- end of generated -->

NAME is a key of `SECTIONS`. Everything else on a page is written by people.
"""

import argparse
import ast
import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from metropolis.api import common_pb2
from metropolis.api.authorization_pb2 import Permission
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.api.methods import Method
from metropolis.base import ports
from metropolis.base.errors import BY_GRPC_STATUS
from metropolis.cluster import lifecycle
from metropolis.cluster.lifecycle import NodeState, Refusal
from metropolis.cluster.planner import storage as storage_policy
from metropolis.cluster.planner import tpm
from metropolis.ctl import configuration
from metropolis.ctl.command_line import CommandGroup
from metropolis.ctl.command_tree import TREE
from metropolis.ctl.metal.command_tree import TREE as METAL_TREE
from metropolis.ctl.metal.options import METALCTL
from metropolis.formats import gpt
from metropolis.lab.main import make_group as metropolis_group
from metropolis.metal.http.confinement import OPEN, SIGHTS
from metropolis.metal.http.table import OPERATIONS as METAL_OPERATIONS
from metropolis.node.enrolment.lifecycle import FLOWS
from metropolis.node.installation.disk import DiskGuids, plan_disk
from metropolis.node.metrics.kernel.collectors import COLLECTORS
from metropolis.node.metrics.series import SERIES
from metropolis.node.storage import PLACES
from metropolis.pki import certificates, keys
from metropolis.rpc.authentication import NODE_PERMISSIONS
from metropolis.rpc.limits import Limits

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
HELP_COLUMNS: Final = 90
BAR: Final = "\\|"  # a bar inside a table's cell
_PART: Final = re.compile(
    r"(<!-- generated: (?P<name>[a-z0-9-]+) -->\n).*?(<!-- end of generated -->)", re.DOTALL
)
_EPILOG: Final = re.compile(r"\n\n  `[a-z]+ --help` shows")  # the same below every command
_NOT_OURS_TO_SERVE: Final = {"rpc_etcd", "rpc_debug"}  # etcd's own, and that of debug images
_SOURCE: Final = ROOT / "src" / "metropolis"
_REGISTERED: Final = re.compile(
    r"\.(?:unary|stream)\(\s*([A-Za-z]+)\.([A-Z_]+),\s*(.+?),?\s*\)$", re.MULTILINE | re.DOTALL
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell.replace('|', BAR) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def fenced(text: str, language: str = "text") -> str:
    """Render a block that is shown as it is."""
    return f"```{language}\n{text.rstrip()}\n```\n"


# The life cycle of a node


def transitions() -> Mapping[tuple[NodeState, NodeState], Sequence[str]]:
    """Return what changes a state: (from, to) -> events, repeats of an event left out."""
    found: dict[tuple[NodeState, NodeState], list[str]] = {}
    for state, row in lifecycle.TABLE.items():
        for event, outcome in row.items():
            if isinstance(outcome, NodeState) and outcome is not state:
                found.setdefault((state, outcome), []).append(event.value)
    return {
        edge: [event for event in events if event.rpartition(" ")[0] not in events]
        for edge, events in found.items()
    }


def lifecycle_drawing() -> str:
    """Draw the states: the usual way on the first line, every other way below it."""
    left = dict(transitions())
    state, line = NodeState.ABSENT, _named(NodeState.ABSENT)
    while onward := sorted(to for start, to in left if start is state and to > state):
        events = left.pop((state, onward[0]))
        line += f" ──{' / '.join(events)}──▶ {_named(onward[0])}"
        state = onward[0]
    by_event: dict[tuple[str, NodeState], list[str]] = {}
    for (start, to), events in left.items():
        for event in events:
            by_event.setdefault((event, to), []).append(_named(start))
    others = [
        f"{', '.join(starts)} ──{event}──▶ {_named(to)}" for (event, to), starts in by_event.items()
    ]
    return fenced("\n".join([line, "", *others]))


def lifecycle_table() -> str:
    """List every event in every state: the next state, or the code of the refusal."""
    states = list(lifecycle.TABLE)
    events = list(lifecycle.TABLE[states[0]])

    def cell(state: NodeState, event: Any) -> str:  # noqa: ANN401  # NodeEvent
        outcome = lifecycle.TABLE[state][event]
        if isinstance(outcome, Refusal):
            return f"`{outcome.kind.code}`"
        return "stays" if outcome is state else f"**{_named(outcome)}**"

    rows = [[event.value, *(cell(state, event) for state in states)] for event in events]
    return table(["event", *(_named(state) for state in states)], rows)


def _named(state: NodeState) -> str:
    return "(no record)" if state is NodeState.ABSENT else state.name


def enrolment_flows() -> str:
    """List the steps of every enrolment flow, in order."""
    lines = []
    for flow, steps in FLOWS.items():
        name = EnrolmentRecord.Flow.Name(flow).removeprefix("FLOW_").lower()
        words = [EnrolmentRecord.Step.Name(step).removeprefix("STEP_") for step in steps]
        lines.append(f"{name + ':':<11}{' > '.join(words[:4])}")
        lines.append(f"{'':<11}  > {' > '.join(words[4:])}")
    return fenced("\n".join(lines))


# The API


def services() -> Iterator[tuple[Any, Mapping[str, str]]]:
    """Yield every service that a node serves, with what its methods say of themselves."""
    for path in sorted((_SOURCE / "api").glob("rpc_*.py")):
        if path.stem in _NOT_OURS_TO_SERVE or path.stem.startswith("rpc_metal_"):
            continue  # Metal's are another program's
        module = import_module(f"metropolis.api.{path.stem}")
        comments = _method_comments(path)
        for value in vars(module).values():
            if isinstance(value, type) and hasattr(value, "SERVICE"):
                yield value, comments


def api_methods() -> str:
    """List the methods of every service: policy and purpose."""
    parts = []
    for service, comments in services():
        pages = {
            id(method): handlers().get((service.__name__, constant))
            for constant, method in vars(service).items()
        }
        rows = [
            (
                f"`{method.name}`",
                method.cardinality.value.replace("unary", "1").replace("stream", "n"),
                _permissions(method),
                _callers(method),
                _answer(pages[id(method)]),
                comments.get(method.path) or (pages[id(method)] or "").partition("\n")[0],
            )
            for method in service.ALL
        ]
        about = " ".join((service.__doc__ or "").split())
        head = ("method", "messages", "permission", "callers", "answer", "what it does")
        parts.append(f"### {service.SERVICE}\n\n{about}\n\n{table(head, rows)}")
    return "\n".join(parts)


def _method_comments(path: Path) -> Mapping[str, str]:
    """Read the comment above every method of a generated module, by the method's path."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# "):
            comment.append(text[2:])
        elif text.startswith("path="):
            found[ast.literal_eval(text[5:].rstrip(","))] = " ".join(comment)
        elif not text or text.startswith("allow_unauthenticated="):
            comment = []
    return found


def _answer(handler: str | None) -> str:
    """Say whether this build answers: what it refuses has a handler whose page begins so."""
    if handler is None:
        return "not served"
    return "refuses" if handler.startswith("Refuse") else "yes"


@cache
def handlers() -> Mapping[tuple[str, str], str]:
    """Return the docstring of every registered handler, by service and constant of the method."""
    pages: dict[tuple[str, str], str] = {}
    registered: dict[tuple[str, str], list[str]] = {}
    for room in ("cluster", "node"):
        for path in sorted((_SOURCE / room).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.AsyncFunctionDef):
                    page = ast.get_docstring(node) or ""
                    pages[path.stem, node.name] = pages["", node.name] = page
            for service, constant, handler in _REGISTERED.findall(text):
                registered[service, constant] = re.findall(r"[a-z_]+", handler)
    return {
        key: pages.get((words[0], words[-1]), pages.get(("", words[-1]), ""))
        for key, words in registered.items()
    }


def _permissions(method: Method[Any, Any]) -> str:
    names = [Permission.Name(Permission.ValueType(each)) for each in method.needs or ()]
    names = [name.removeprefix("PERMISSION_") for name in names]
    names += getattr(method, "requires", ())
    return ", ".join(names) or "none"


def _callers(method: Method[Any, Any]) -> str:
    if method.allow_unauthenticated and not method.needs:
        return "anybody"
    if set(method.needs or ()) == {Permission.PERMISSION_UPDATE_NODE_SELF}:
        return "nodes, about themselves"  # the handlers ask who calls
    if set(method.needs or ()) <= NODE_PERMISSIONS and not getattr(method, "requires", ()):
        return "users, nodes"
    return "users"


def error_codes() -> str:
    """List the codes of errors with what they mean and what `metroctl` makes of them."""
    rows = [
        (
            str(kind.grpc_status),
            f"`{kind.code}`",
            (kind.__doc__ or "").partition("\n")[0],
            "2, try again" if kind.retryable else "1, fix it",
        )
        for kind in BY_GRPC_STATUS.values()
    ]
    return table(("gRPC", "code", "meaning", "exit status"), sorted(rows, key=lambda r: int(r[0])))


def listening_ports() -> str:
    """List the documented ports with the comment that each has in its module."""
    text = (_SOURCE / "base" / "ports.py").read_text(encoding="utf-8")
    rows = []
    for name, number, comment in re.findall(
        r"^([A-Z_]+)_PORT: Final = (\d+)(?:  # (.*))?$", text, re.MULTILINE
    ):
        protocol = name.rpartition("_")[2]
        title = ports.TCP_PORT_NAMES.get(int(number), name.lower().removesuffix("_udp"))
        reached = "yes" if int(number) in ports.CLIENT_TCP_PORTS else ""
        rows.append((number, protocol, title, comment, _is_open(int(number)), reached))
    columns = ("port", "protocol", "name", "what", "firewall lets it in", "through the lab's proxy")
    return table(columns, rows)


def _is_open(number: int) -> str:
    if number in ports.OPEN_TCP_PORTS:
        return "yes"
    return "in debug images" if number in ports.DEBUG_TCP_PORTS else "not in this build"


def node_storage() -> str:
    """List every place of a node's storage."""
    rows = [
        (
            f"`{place.path}{'/' if place.is_directory else ''}`",
            f"{place.mode:04o}",
            f"`{place.owner}`",
            place.holds,
            ("sealed, twice" if place.is_sealed else "twice") if place.is_kept_twice else "",
        )
        for place in PLACES
    ]
    return table(("path", "mode", "owner", "holds", "kept"), rows)


def metrics_series() -> str:
    """List every series that a node tells of itself."""
    rows = [
        (
            f"`{each.name}`",
            each.kind.value,
            ", ".join(f"`{name}`" for name in each.labels),
            each.text,
        )
        for each in SERIES
    ]
    return table(("series", "kind", "labels", "meaning"), rows)


def metrics_collectors() -> str:
    """List what a node asks its kernel for."""
    rows = [
        (f"`{name}`", (collector.__doc__ or "").strip()) for name, collector in COLLECTORS.items()
    ]
    return table(("collector", "what"), rows)


def disk_layout() -> str:
    """Plan a disk and list its partitions."""
    plan = plan_disk(8 << 30, guids=DiskGuids.derived(UUID(int=1), "any"))
    extents = (plan.esp, plan.slot_a, plan.slot_b, plan.data)
    names = (gpt.ESP_NAME, gpt.SYSTEM_A_NAME, gpt.SYSTEM_B_NAME, gpt.DATA_NAME)
    kinds = (gpt.ESP_TYPE, gpt.SYSTEM_A_TYPE, gpt.SYSTEM_B_TYPE, gpt.DATA_TYPE)
    drawn = "drawn from the medium's id and the disk's serial number"
    image = "of its image: the first half of the root hash"
    guids = (drawn, image, f"{image}; before there is one, drawn, too", drawn)
    rows = [
        (str(number), f"`{name}`", f"`{kind}`", guid, f"{extent.size_bytes >> 20} MiB")
        for number, (name, kind, guid, extent) in enumerate(
            zip(names, kinds, guids, extents, strict=True), start=1
        )
    ]
    return table(("", "name", "type", "GUID", "size"), rows)


def hardware_drivers() -> str:
    """List the drivers that an image has for hardware."""
    declared = tomllib.loads((ROOT / "images" / "node.toml").read_text(encoding="utf-8"))
    rows = []
    for name, modules in (
        ("disks and their controllers", declared["initrd"]["hardware"]),
        ("everything else", declared["kernel_modules"]["hardware"]),
    ):
        rows.append((name, ", ".join(f"`{each}`" for each in modules)))
    return table(("for", "modules"), rows)


def tpm_modes() -> str:
    """List what each TPM mode makes of a machine."""
    rows = [
        (f"`{_spoken(common_pb2.ClusterConfiguration.TPMMode.Name(mode), 'TPM_MODE_')}`",
         _usage(mode, has_tpm=True), _usage(mode, has_tpm=False))
        for mode in tpm.ACCEPTED
    ]  # fmt: skip
    return table(("mode", "a machine with a TPM", "a machine without"), rows)


def _usage(mode: tpm.Mode, *, has_tpm: bool) -> str:
    usage = tpm.USAGE[mode, has_tpm]
    if usage is None:
        return "is refused"
    name = common_pb2.NodeTPMUsage.Name(usage).removeprefix("NODE_TPM_USAGE_")
    return {
        "PRESENT_AND_USED": "seals its secrets",
        "PRESENT_BUT_UNUSED": "leaves the TPM alone",
        "NOT_PRESENT": "enrols without",
    }[name]


def storage_policies() -> str:
    """List what each storage policy recommends and accepts."""
    kinds = common_pb2.ClusterConfiguration.StorageSecurityPolicy
    security = common_pb2.NodeStorageSecurity

    def kind(value: storage_policy.Security) -> str:
        return f"`{security.Name(value).removeprefix('NODE_STORAGE_SECURITY_')}`"

    rows = [
        (
            f"`{_spoken(kinds.Name(policy), 'STORAGE_SECURITY_POLICY_')}`",
            kind(recommended),
            ", ".join(kind(each) for each in accepted),
        )
        for policy, (recommended, accepted) in storage_policy.POLICIES.items()
    ]
    return table(("policy", "recommended", "accepted"), rows)


def _spoken(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", "-")


def certificate_kinds() -> str:
    """Issue one certificate of every kind and list what each says."""
    signer = Ed25519PrivateKey.from_private_bytes(bytes(32))
    raw = keys.raw_public_key(signer)
    cluster = certificates.issue_cluster_ca(signer, serial=2)
    etcd = certificates.issue_etcd_ca(signer, serial=3)
    user = certificates.issue_user(
        cluster, raw, identity="alice", serial=6, validity=certificates.FOREVER
    )
    owner = certificates.issue_user(cluster, raw, identity=certificates.OWNER, serial=5)
    days = f"{certificates.USER_VALIDITY.days} days"
    kinds = (
        ("cluster CA", "itself", cluster.certificate, ""),
        ("etcd CA", "itself", etcd.certificate, ""),
        ("node", "cluster CA", certificates.issue_node(cluster, raw, serial=4), ""),
        ("owner", "cluster CA", owner, ""),
        ("other user", "cluster CA", user, days),
        ("etcd peer", "etcd CA", certificates.issue_etcd_peer(etcd, raw, serial=7), ""),
        ("ephemeral", "itself", certificates.issue_ephemeral(signer), ""),
    )
    head = ("kind", "signed by", "common name", "DNS name", "usages", "valid")
    return table(head, [_certificate_row(*kind) for kind in kinds])


def _certificate_row(kind: str, issuer: str, der: bytes, valid: str) -> Sequence[str]:
    read = x509.load_der_x509_certificate(der)
    names = [str(name.value) for name in read.subject]
    usage_names = {
        ExtendedKeyUsageOID.SERVER_AUTH: "server",
        ExtendedKeyUsageOID.CLIENT_AUTH: "client",
        ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP signing",
    }
    usages = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    has_dns = any(each.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME for each in read.extensions)
    common_name = (names or ["none"])[0]
    if common_name.startswith("metropolis-"):
        common_name = "node id"
    years = f"{read.not_valid_before_utc.year} to {read.not_valid_after_utc.year}"
    if common_name == "alice":
        common_name = "the user's name"
    return (
        kind,
        issuer,
        common_name,
        "node id" if has_dns else "none",
        ", ".join(usage_names[usage] for usage in usages),
        valid or years,
    )


def rpc_limits() -> str:
    """List the limits of a server with the comment that each has in its module."""
    text = (_SOURCE / "rpc" / "limits.py").read_text(encoding="utf-8")
    limits = Limits()
    rows = [
        (f"`{name}`", f"{getattr(limits, name):,}".removesuffix(".0"), comment)
        for name, comment in re.findall(
            r"^    ([a-z_]+): (?:int|float) = [^#\n]+?(?:  # (.*))?$", text, re.MULTILINE
        )
    ]
    return table(("limit", "value", "of what, and why"), rows)


# The command lines


def metroctl_group() -> click.Group:
    """Return `metroctl` as a click command."""
    return CommandGroup("metroctl", TREE, is_root=True)


def metalctl_group() -> click.Group:
    """Return `metalctl` as a click command."""
    return CommandGroup("metalctl", METAL_TREE, tool=METALCTL, is_root=True)


def leaves(
    group: click.Group, parent: click.Context | None = None, name: str = ""
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command that `--help` shows: its whole name, itself, and a context for it."""
    ctx = _context(group, name or group.name or "", parent)
    for child_name in group.list_commands(ctx):
        child = group.get_command(ctx, child_name)
        assert child is not None
        if child.hidden or _is_hidden(group, child_name):
            continue
        if isinstance(child, click.Group):
            yield from leaves(child, ctx, child_name)
        else:
            own = _context(child, child_name, ctx)
            yield own.command_path, child, own


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": HELP_COLUMNS}
    return click.Context(command, parent=parent, info_name=name, **settings)


def _is_hidden(group: click.Group, name: str) -> bool:
    branch = getattr(group, "_branch", None)
    return branch is not None and bool(branch.commands[name].is_hidden)


def command_reference(group: click.Group) -> str:
    """Print the help of the program and of every command."""
    parts = [fenced(group.get_help(_context(group, group.name or "", None)))]
    for path, command, ctx in leaves(group):
        help_text = _EPILOG.split(command.get_help(ctx))[0]
        parts.append(f"## {path}\n\n{fenced(help_text)}")
    return "\n".join(parts)


def command_summaries(group: click.Group) -> str:
    """List every command with its first sentence."""
    rows = [
        (
            f"`{command.get_usage(ctx).removeprefix('Usage: ').replace(' [OPTIONS]', '')}`",
            command.get_short_help_str(limit=200),
        )
        for _, command, ctx in leaves(group)
    ]
    return table(("command", "what it does"), rows)


def configuration_fields() -> str:
    """List the fields of the cluster's configuration that have a name for people."""
    rows = [
        (f"`{field.path}`", "may change" if field.write else "fixed when the cluster is founded")
        for field in configuration.FIELDS.values()
    ]
    return table(("field", ""), rows)


def metal_operations() -> str:
    """Draw the operations of the Metal API, by tag and path."""
    ordered = sorted(METAL_OPERATIONS, key=lambda each: (each.path, each.method))
    rows = []
    for operation in ordered:
        reads = operation.method == "GET"
        audited = not reads if operation.audited is None else operation.audited
        sight = SIGHTS.get(operation.id)
        rows.append(
            (
                f"`{operation.method} {operation.path}`",
                f"`{operation.id}`",
                operation.role.name.lower(),
                "" if sight is None else "all" if operation.id in OPEN else "own",
                "yes" if audited else "",
                operation.summary[:1].upper() + operation.summary[1:].rstrip("."),
            )
        )
    return table(("Operation", "Id", "Role", "Projects", "Audit", "What it does"), rows)


SECTIONS: Final[Mapping[str, Callable[[], str]]] = {
    "lifecycle-drawing": lifecycle_drawing,
    "lifecycle-table": lifecycle_table,
    "enrolment-flows": enrolment_flows,
    "api-methods": api_methods,
    "error-codes": error_codes,
    "ports": listening_ports,
    "disk-layout": disk_layout,
    "hardware-drivers": hardware_drivers,
    "tpm-modes": tpm_modes,
    "storage-policies": storage_policies,
    "metrics-series": metrics_series,
    "metrics-collectors": metrics_collectors,
    "node-storage": node_storage,
    "certificates": certificate_kinds,
    "rpc-limits": rpc_limits,
    "configuration-fields": configuration_fields,
    "metroctl-commands": lambda: command_summaries(metroctl_group()),
    "metroctl-reference": lambda: command_reference(metroctl_group()),
    "metalctl-commands": lambda: command_summaries(metalctl_group()),
    "metalctl-reference": lambda: command_reference(metalctl_group()),
    "metropolis-commands": lambda: command_summaries(metropolis_group()),
    "metal-operations": metal_operations,
    "metropolis-reference": lambda: command_reference(metropolis_group()),
}


def renewed(text: str) -> str:
    """Return a page with every generated part as it would be drawn now.

    Raises:
        KeyError: a part names no section.
    """
    return _PART.sub(lambda part: f"{part[1]}\n{SECTIONS[part['name']]()}\n{part[3]}", text)


def pages() -> list[Path]:
    """Every page of the documentation, sorted."""
    return sorted(DOCS.rglob("*.md"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or compare; the exit status says whether something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args(arguments)
    differs = False
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = renewed(text)
        if new == text:
            continue
        name = page.relative_to(ROOT).as_posix()
        if not options.check:
            page.write_text(new, encoding="utf-8")
            print(f"handbook: wrote {name}", file=sys.stderr)
            continue
        differs = True
        lines = difflib.unified_diff(
            text.splitlines(), new.splitlines(), f"{name} (committed)", f"{name} (drawn)", "", "", 1
        )
        print("\n".join(lines), file=sys.stderr)
    if differs:
        print("remedy: python tools/handbook.py", file=sys.stderr)
    return 1 if differs else 0


if __name__ == "__main__":
    raise SystemExit(main())
