"""The small bundled weights, the scenes they know, and the script that trained them."""
