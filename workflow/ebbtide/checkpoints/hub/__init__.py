"""Checkpoints on a hub: listing and locking them (client, resolve, lock), auditing them, fetching them.

Only `client` imports the hub's library. Everything that reads the lock, except fetching, needs no network.
"""
