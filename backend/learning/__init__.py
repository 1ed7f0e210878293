"""What people correct makes the next masks better: when a project learns, which fit is in use, how good it is."""
