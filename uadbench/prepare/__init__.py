"""Preparation: recipes of steps that turn scans as distributed into a folder of scans that methods can use."""
