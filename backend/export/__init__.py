"""A data set at the end: annotations or predictions as files that other programs read."""
