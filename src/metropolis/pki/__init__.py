# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and the names they prove. Pure: no clock, no files, no store.

Refuses trust by anything but keys: one CA level, Ed25519 everywhere, exactly one certificate per
side. The cluster's CA key lives only in the cluster's store, see `metropolis.cluster.state`.

    keys          Ed25519 keys in the forms we keep and exchange (raw, PKCS#8, 64-byte seed||public)
    certificates  templates: cluster CA, etcd CA, node, user, etcd peer, ephemeral; the etcd CRL
    reading       what a hostile certificate says, or one kind of error
    identity      what a certificate proves: node or user of this cluster, or just a key
    credentials   certificate + key of one side of a connection
    tickets       register tickets
    passwords     one-time passwords of users
    rotation      what a new owner's key signs before it replaces the old one
    unlock        node and cluster halves of a disk key
    secret        32 bytes that are never printed
    pem           the armour of keys and certificates

          cluster CA  --signs-->  node (serverAuth), user (clientAuth)
          etcd CA     --signs-->  consensus member (both)
          any key     --signs-->  itself: ephemeral, proves the key and nothing else

    serverAuth / clientAuth tell *node* from *user*, nothing else: nodes are TLS clients, too.
"""
