"""The page that a person sees who opens the service's address: what runs, how good it is, and labels to try out."""
