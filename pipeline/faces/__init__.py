"""Faces: found, aligned, linked and remembered."""
