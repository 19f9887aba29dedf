"""Tables of results: rows, the resumable graph of jobs behind them, their records."""
