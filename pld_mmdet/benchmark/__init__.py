"""Speed and memory, each against the rival it has to beat."""
