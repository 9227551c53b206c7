# SPDX-License-Identifier: Apache-2.0
"""Calls between machines: gRPC channels and servers, TLS identity, following the leader.

Refuses business rules: what a caller may do to a cluster is decided above; here it is decided who
the caller is and whether the method's policy admits that kind of caller at all.

    channel         what callers and handlers see: Channel, ClientStream, ServerStream, Services
    peer            who is at the other end, judged per call from the certificate of the connection
    authentication  certificate + method policy -> Peer, or a gRPC error that carries a remedy
    transport       the edge: dial and serve; real (`grpc`) or in memory (`memory`, same bytes)
    resolver        a Channel that finds the leader from any one address and follows it
    status          errors as trailers and back; `NotLeaderError` names who leads
    tls             handshakes that ask for a certificate without trusting it
    limits          what a server grants to whom
    throttle        how often strangers may ask

       handler(request, peer)                       channel.call(METHOD, request)
            ^                                              |
      authentication <- policy of the method               v
            ^                                          resolver -- CuratorLocal.GetCurrentLeader
            |            the same serialized bytes         |
       transport  <-------------------------------->  transport
        grpc: TLS 1.3, h2, one certificate per side   memory: a simulated network with faults
"""
