"""``python -m robust_transfer.cli``."""

from robust_transfer.cli import main

main()
