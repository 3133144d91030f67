"""The networks and their files on disk. Imports torch, never the pipeline."""

PICTURE_PX = 64  # width and height of what the networks take and give; here, to be known without loading torch
