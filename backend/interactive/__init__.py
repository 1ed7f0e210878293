"""What a person points at, draws or types, answered with a mask."""
