"""What corrected masks teach: evidence, two convex fits behind guards, and how a fit is applied.

Pure: arrays in, weights out. No disk, no threads, nothing of who corrected what where. Nothing is trained: the networks
stay frozen, and the fits see only what is cached of every picture anyway.
"""
