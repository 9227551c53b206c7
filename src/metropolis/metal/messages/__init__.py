# SPDX-License-Identifier: Apache-2.0
"""Messages to the partitions: a transactional outbox, read at least once, in order.

    tx.send(topic, message) ──commit──> outbox ──follow──> consumer ──acknowledge──> position
                                          │  1 2 3 4 …  per topic, no holes
                                          └─ prune: acknowledged by everybody, or too old

A message is written in the transaction of what it tells of, so there is never one without the
other. Whoever reads may read again after a broken connection: the pair (topic, sequence) names a
message for ever, and a consumer that remembers the last one it has done does nothing twice.

    outbox       what was sent: read, acknowledged, kept for a while
    delivery     the stream to a subscriber, at least once; its only connection comes from outside
    subscribers  who subscribes, as its certificate says, and to what
    credentials  how to log in at a BMC: added for that partition's BMC agent, at delivery
    subscribing  the subscriber's end

There is no broker beside the database: whoever can commit can send, and a backup has both.

Refuses: delivery guarantees by memory. A replica that dies in the middle of a stream loses
nothing but the stream.
"""
