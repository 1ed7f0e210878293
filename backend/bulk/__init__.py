"""Many tasks at once: predictions written through the API, whole folders and buckets."""
