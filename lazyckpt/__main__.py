"""The entry point of `python -m lazyckpt`."""

from lazyckpt.cli import main

main()
