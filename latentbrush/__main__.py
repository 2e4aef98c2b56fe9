"""`python -m latentbrush` is the command line."""

from latentbrush.cli import main

main()
