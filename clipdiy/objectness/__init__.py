"""Objectness: how likely each pixel lies on any object at all, whatever its class."""
