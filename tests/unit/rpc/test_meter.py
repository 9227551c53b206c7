# SPDX-License-Identifier: Apache-2.0
"""What a server counts about its calls."""

from metropolis.api.rpc_management import Management
from metropolis.rpc.meter import BOUNDS_S, UNKNOWN, CallMeter


def test_a_call_is_in_flight_until_it_ends() -> None:
    meter = CallMeter()
    calls = meter.begin(Management.GET_CLUSTER_INFO)
    assert [(path, each.in_flight) for path, each in meter] == [
        (Management.GET_CLUSTER_INFO.path, 1)
    ]
    calls.end(0, 0.002)
    assert (calls.in_flight, calls.by_code, sum(calls.counts)) == (0, {0: 1}, 1)


def test_the_time_of_a_call_falls_into_the_bucket_that_holds_it() -> None:
    calls = CallMeter().begin(Management.GET_CLUSTER_INFO)
    calls.end(0, BOUNDS_S[2])
    assert calls.counts[2] == 1
    calls.end(0, BOUNDS_S[-1] + 1)
    assert calls.counts[-1] == 1


def test_how_long_a_stream_lasts_is_no_latency() -> None:
    calls = CallMeter().begin(Management.GET_NODES)
    calls.end(0, 3600.0)
    assert (sum(calls.counts), calls.total_s, calls.by_code) == (0, 0.0, {0: 1})


def test_what_callers_make_up_is_counted_under_one_name() -> None:
    meter = CallMeter()
    for _ in range(3):
        meter.refuse_unknown()
    assert [(path, dict(calls.by_code)) for path, calls in meter] == [(UNKNOWN, {12: 3})]
