"""The Label Studio side: what comes in is tasks and configs, what goes out is predictions.

Of `clipdiy` it uses the public names only; nothing in `clipdiy` knows that this package exists.
"""
