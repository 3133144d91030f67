"""A new face put into a frame: mask, colour, paste."""
