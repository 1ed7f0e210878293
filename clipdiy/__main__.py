"""`python -m clipdiy` is the command line, also where the package is not installed."""

from clipdiy.cli import main

main()
