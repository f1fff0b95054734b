"""Experiments too long for a notebook: each is one command, and its results lie beside it as JSON."""
