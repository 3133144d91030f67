"""Faces: detected, aligned, tracked, identified and stored."""
