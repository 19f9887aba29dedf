"""Weak supervision: test-time, federated and clustering pseudo-labels. Importing registers it."""
