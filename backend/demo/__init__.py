"""Tools for developers: the demo, a real Label Studio and a browser to look at it. No service imports them."""
