# SPDX-License-Identifier: Apache-2.0
"""How a starting node finds out who it is: bootstrap, register, or join.

lifecycle   the flows as tables, and the decision between them; pure
record      the record that makes every step resumable
edges       what an enrolment may touch
bootstrap   actions of the flow that founds a cluster
register    actions of the flow that becomes a member of one
join        what a finished node does at every later start
runnable    the loop: decide, act, write down; publishes the NodeIdentity
"""
