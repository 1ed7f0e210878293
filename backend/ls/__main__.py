"""`python -m backend.ls` is `clipdiy-ls`."""

from backend.ls.app import main

main()
