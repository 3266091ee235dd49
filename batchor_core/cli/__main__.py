"""``python -m batchor_core.cli``."""

from batchor_core.cli import main

main()
