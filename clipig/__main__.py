"""`python -m clipig`."""

from clipig.cli import main

main()
