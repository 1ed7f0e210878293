"""The HTTP side: Label Studio's ML backend protocol, and the servers that speak it."""
