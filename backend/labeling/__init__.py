"""What a labeling config asks for: its XML read without danger, its controls, their labels."""
