"""`python -m rater`, the same as the command `rater`."""

from rater.cli import main

main()
