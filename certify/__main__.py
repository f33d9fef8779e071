"""``python -m certify`` is ``certify``."""

from certify.cli import main

main()
