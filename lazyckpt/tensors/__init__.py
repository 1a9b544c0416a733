"""Conversions between numpy arrays and tensors of MindSpore, torch and dask.

Each module imports its framework, and is itself imported by the first conversion that needs it.
"""
