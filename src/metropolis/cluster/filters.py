# SPDX-License-Identifier: Apache-2.0
"""Which nodes a CEL expression selects.

    node.state == NODE_STATE_UP
    has(node.roles.kubernetes_worker)
    node.time_since_heartbeat < duration('6s')

`node` is a `metropolis.proto.api.Node`. States and healths have names of their own, with or
without the type before them (`NODE_STATE_UP`, `NodeState.NODE_STATE_UP`, `HEALTH_HEALTHY`).

The text comes from outside, so everything that can multiply work or memory is left out of the
language: the macros that loop, and the joining of strings and lists. Expressions are checked
before anything is evaluated; the original finds a misspelt field only at the first node. A
failure for one node is the expression's, and therefore a bad request, where the original says
UNAVAILABLE.

The evaluator is loaded with the first filter: it is large, and most processes never see one.
"""

from functools import cache, lru_cache
from typing import Any, Final, final

from google.protobuf import descriptor_pool

from metropolis.api.common_pb2 import NodeState
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import InvalidArgumentError

FILTER_BYTES_MAX: Final = 4096
COMPILED_KEPT_MAX: Final = 64
_PROBLEM_CHARS_MAX: Final = 240
_REMEDY: Final = (
    "Write a condition on `node`, e.g. node.state == NODE_STATE_UP or "
    "has(node.roles.consensus_member)."
)
_ENVIRONMENT: Final = """\
stdlib:
  exclude_macros: [all, exists, exists_one, map, filter]
  exclude_functions:
    - name: _+_
"""


@final
class NodeFilter:
    """A compiled expression."""

    def __init__(self, program: Any, error_type: Any, bool_type: Any) -> None:  # noqa: ANN401  # untyped library
        self._program = program
        self._error_type = error_type
        self._bool_type = bool_type

    def matches(self, node: Node) -> bool:
        """Tell whether a node is selected.

        Raises:
            InvalidArgumentError: the expression fails for this node, or is not a condition.
        """
        value = self._program.eval(data={"node": node})
        kind = value.type()
        if kind == self._bool_type:
            return bool(value.value())
        if kind == self._error_type:
            problem = f"filter fails for node {node.id}: {_short(str(value.value()))}"
        else:
            problem = f"filter gives {_short(str(kind.name()))}, not a bool"
        raise InvalidArgumentError(problem, remedy=_REMEDY)


def compile_filter(text: str) -> NodeFilter:
    """Compile an expression, or find it compiled.

    Raises:
        InvalidArgumentError: too long, malformed, or not a condition.
    """
    size = len(text.encode("utf-8", errors="surrogatepass"))
    if size > FILTER_BYTES_MAX:
        raise InvalidArgumentError(
            f"a filter of {size} bytes is longer than {FILTER_BYTES_MAX}", remedy=_REMEDY
        )
    return _compile(text)


@lru_cache(maxsize=COMPILED_KEPT_MAX)
def _compile(text: str) -> NodeFilter:
    environment, cel = _environment()
    try:
        program = environment.compile(text)
        kind = program.return_type()
    except (RuntimeError, ValueError, TypeError) as error:
        # Without the library's own traceback: its text says it all, and quotes the expression.
        raise InvalidArgumentError(f"filter: {_short(str(error))}", remedy=_REMEDY) from None
    if kind not in (cel.Type.BOOL, cel.Type.DYN):  # types are not hashable
        raise InvalidArgumentError(
            f"filter gives {_short(str(kind.name()))}, not a bool", remedy=_REMEDY
        )
    return NodeFilter(program, cel.Type.ERROR, cel.Type.BOOL)


@cache
def _environment() -> tuple[Any, Any]:
    from cel_expr_python import cel  # noqa: PLC0415  # 50 MB that most processes never need

    state, health = NodeState.DESCRIPTOR, Node.Health.DESCRIPTOR
    package = Node.DESCRIPTOR.file.package
    names = [
        state.full_name,
        *(f"{state.full_name}.{name}" for name in NodeState.keys()),  # noqa: SIM118  # no mapping
        *(f"{health.full_name}.{name}" for name in Node.Health.keys()),  # noqa: SIM118
    ]
    environment = cel.NewEnv(
        descriptor_pool=descriptor_pool.Default(),
        config=cel.NewEnvConfigFromYaml(_ENVIRONMENT),
        variables={"node": cel.Type(Node.DESCRIPTOR.full_name)},
        container=cel.ExpressionContainer(name=package, abbreviations=names),
    )
    return environment, cel


def _short(text: str) -> str:
    line = text.partition("\n")[0].removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")
    return line[:_PROBLEM_CHARS_MAX]
