"""The networks and their files on disk. Imports torch, never the pipeline."""
