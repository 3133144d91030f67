"""Speed and quality, measured beside the plain way of doing the same."""
