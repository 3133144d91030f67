"""What there is beside the three stages."""
