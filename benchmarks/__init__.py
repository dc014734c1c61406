"""Benchmarks with an honest ruler; see README.md in this folder."""
