"""Speed and memory of the founding chain, each against the rival it has to beat."""
