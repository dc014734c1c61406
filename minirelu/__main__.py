"""`python -m minirelu`, the same as the command `minirelu`."""

from .cli import main

main()
