# SPDX-License-Identifier: Apache-2.0
"""The real transport of `metropolis.rpc`: gRPC over TLS 1.3 and HTTP/2, on asyncio or uvloop.

Refuses plaintext, except to a unix socket of this machine. No rule about callers lives here: it
hands the one certificate that a client proved to hold to the `Authenticator`, call by call.

    transport   GrpcTransport: dial, serve; dial_unix
    client      channel: lazy connection, reconnect, keep-alive, deadlines, errors rebuilt
    server      accept, handshake, caps per address or identity, calls started and cancelled
    mutual      the same over ordinary mutual TLS, for peers outside of any cluster
    answer      one call of a server: judge, read, run the handler, answer
    framing     messages: prefix, limit, decode
    headers     request headers, timeouts, what is no gRPC answer
    wire        HTTP/2 connections: grpclib's internals, and what we changed in them
    stream      one call's share of a connection
    h2_connection  h2's connections, lighter
    inbox       what a stream has received, and how it can fail
    h2_settings what either side announces

      GrpcChannel -> Wire == TLS == Wire -> _Connection -> ServerCall -> Authenticator, handler
                     one Wire per connection, one WireStream per call
"""

from metropolis.rpc.grpc.transport import GrpcTransport, dial_unix

__all__ = ["GrpcTransport", "dial_unix"]
