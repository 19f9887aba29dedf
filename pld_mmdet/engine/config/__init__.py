"""Configs: read, compared with what takes them, looked at before anything is built."""
