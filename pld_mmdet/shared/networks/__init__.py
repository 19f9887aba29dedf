"""Networks that several families build."""
