"""Nets of other frameworks: leaves that are imported when one of their functions is called, and only then."""
