"""A class's mask in the forms that Label Studio's controls take; a file for each. Pixels in, plain values out."""
