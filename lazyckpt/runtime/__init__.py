"""What the package needs of the process it runs in: logging, optional imports, atomic writes."""
