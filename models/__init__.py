"""The networks and their files on disk. Imports torch, never the pipeline."""

PICTURE_PX = 64  # width and height of the networks' pictures; defined here to be available without torch


class CheckpointError(Exception):
    """A model's files cannot be read or written; ``str()`` is one line for the user."""
