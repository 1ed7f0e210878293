"""What people made of predictions, kept: one row for each annotation, in one file."""
