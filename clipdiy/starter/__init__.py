"""The small bundled weights, and the scenes and words that they know."""
