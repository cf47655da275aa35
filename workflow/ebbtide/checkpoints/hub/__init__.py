"""Checkpoints on a hub: what is there (client, resolve, lock), whether it can be true (audit), fetching it.

`client` alone knows the hub's library. `lock` is the border: whatever comes after it needs no network.
"""
