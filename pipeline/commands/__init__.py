"""The commands besides the three stages."""
