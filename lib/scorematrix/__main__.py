"""`python -m scorematrix`."""

from scorematrix.cli import main

main()
