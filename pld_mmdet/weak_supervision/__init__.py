"""Weak supervision: test-time, federated, clustering. Importing registers it."""
