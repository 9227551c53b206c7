# SPDX-License-Identifier: Apache-2.0
"""What a replica counts, as Prometheus reads it."""

import asyncio

from metropolis.metal.http.metrics import Metrics, MetricsApplication
from unit.metal.http.client import request, serving


def test_requests_are_counted_by_code_and_route_never_by_what_was_asked() -> None:
    async def scenario() -> None:
        async with serving() as client:
            for path in ("/v1/size/a", "/v1/size/b", "/v1/nothing/at-all"):
                await client.get(path)
            await client.call("BREW", "/v1/size")
            text = client.application.metrics.text()
        assert 'metal_api_requests_total{code="404",method="GET"} 3' in text
        assert 'metal_api_requests_total{code="405",method="other"} 1' in text
        name = "metal_api_request_duration_seconds"
        assert f'{name}_count{{route="/v1/size/{{id}}",method="GET"}} 2' in text
        assert f'{name}_count{{route="none",method="GET"}} 1' in text
        assert "at-all" not in text

    asyncio.run(scenario())


def test_durations_fall_into_buckets_that_add_up() -> None:
    metrics = Metrics()
    for duration_s in (0.1, 0.25, 0.3, 11.0):
        metrics.count("/x", "GET", 200, duration_s)
    lines = metrics.text().splitlines()
    buckets = [line.rpartition(" ")[2] for line in lines if "_bucket{" in line]
    assert buckets == ["2", "3", "3", "3", "3", "3", "4"]
    assert any('le="+Inf"' in line for line in lines)
    assert any(line.endswith('_sum{route="/x",method="GET"} 11.650000') for line in lines)


def test_the_counters_are_all_that_is_served_there() -> None:
    async def scenario() -> None:
        application = MetricsApplication(Metrics())
        for method, path, status in (
            ("GET", "/metrics", 200),
            ("POST", "/metrics", 405),
            ("GET", "/v1/machine", 404),
        ):
            answer = await request(application, method, path, headers={})
            assert answer.status == status
        answer = await request(application, "GET", "/metrics", headers={})
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")

    asyncio.run(scenario())
