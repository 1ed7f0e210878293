"""Tasks in, predictions out: pictures encoded once, requests answered within a deadline."""
