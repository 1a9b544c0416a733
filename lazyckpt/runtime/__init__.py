"""Logging, optional imports, thread counts, system errors and atomic file writes."""
