"""Video and picture files, in and out."""
