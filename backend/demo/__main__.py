"""`python -m backend.demo`."""

from backend.demo.demo import app

app()
