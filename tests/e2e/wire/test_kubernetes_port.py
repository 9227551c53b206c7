# SPDX-License-Identifier: Apache-2.0
"""Port 6444 before there is Kubernetes: probed by `takeownership`, asked by kubectl."""

import contextlib
import json
from collections.abc import Sequence

import pytest

from e2e.wire import paths
from e2e.wire.go_certificates import check_node, dns_names
from e2e.wire.go_tls import GoTls
from e2e.wire.site import Site

KUBECTL_ALPN = (b"h2", b"http/1.1")
KUBECTL_HEADERS = (
    "Host: 10.1.0.2:6444\r\nUser-Agent: kubectl/v1.31.2\r\n"
    "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json\r\n"
    "Accept-Encoding: gzip\r\nKubectl-Command: kubectl get\r\n"
)


def ask(site: Site, request: bytes, *, alpn: Sequence[bytes] = KUBECTL_ALPN) -> tuple[str, bytes]:
    """Send bytes, read until the server closes; return head and body."""
    tls = GoTls(site.address(paths.KUBERNETES_TCP_PORT), site.owner, alpn=alpn)
    answer = b""
    with contextlib.closing(tls):
        tls.send(request)
        while data := tls.receive(5.0):
            answer += data
    assert data is not None, "neither an answer nor an end"
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


def test_the_probe_learns_the_nodes_name_without_a_certificate(site: Site) -> None:
    tls = GoTls(site.address(paths.KUBERNETES_TCP_PORT), None, alpn=())
    (certificate,) = tls.server_certificates
    assert check_node(certificate, site.ca) == site.node_id
    assert dns_names(certificate) == [site.node_id]
    tls.close()


@pytest.mark.parametrize(
    ("offered", "selected"),
    [((), b""), ((b"http/1.1",), b"http/1.1"), (KUBECTL_ALPN, b"http/1.1")],
)
def test_http_is_spoken_in_a_version_that_the_client_offers(
    site: Site, offered: Sequence[bytes], selected: bytes
) -> None:
    tls = GoTls(site.address(paths.KUBERNETES_TCP_PORT), site.owner, alpn=offered)
    assert (tls.alpn, tls.version) == (selected, "TLSv1.3")
    tls.close()


@pytest.mark.parametrize(
    "target", ["/api?timeout=32s", "/version?timeout=32s", "/api/v1/namespaces/default/pods", "/"]
)
def test_kubectl_is_told_why_there_is_no_answer(site: Site, target: str) -> None:
    head, body = ask(site, f"GET {target} HTTP/1.1\r\n{KUBECTL_HEADERS}\r\n".encode())
    first, *headers = head.split("\r\n")
    assert first == "HTTP/1.1 503 Service Unavailable"
    named = dict(header.lower().split(": ", 1) for header in headers)
    assert named["content-type"] == "application/json"
    assert int(named["content-length"]) == len(body)
    status = json.loads(body)
    assert (status["kind"], status["apiVersion"]) == ("Status", "v1")
    assert (status["status"], status["code"]) == ("Failure", 503)
    assert status["reason"] == "ServiceUnavailable"
    assert status["message"] == "Kubernetes is not enabled yet"


def test_a_head_request_gets_no_body(site: Site) -> None:
    head, body = ask(site, f"HEAD /healthz HTTP/1.1\r\n{KUBECTL_HEADERS}\r\n".encode())
    assert head.startswith("HTTP/1.1 503 ")
    assert body == b""


def test_who_uploads_something_gets_the_answer_too(site: Site) -> None:
    size = 1 << 20
    start = f"POST /api/v1/pods HTTP/1.1\r\n{KUBECTL_HEADERS}Content-Length: {size}\r\n\r\n"
    head, body = ask(site, start.encode() + b"x" * size)
    assert head.startswith("HTTP/1.1 503 ")
    assert json.loads(body)["code"] == 503


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9,
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_garbage_ends_only_its_own_connection(site: Site, garbage: bytes) -> None:
    ask(site, garbage)
    head, _body = ask(site, f"GET / HTTP/1.1\r\n{KUBECTL_HEADERS}\r\n".encode())
    assert head.startswith("HTTP/1.1 503 ")
