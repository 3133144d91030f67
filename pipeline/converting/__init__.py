"""What convert is made of: which frames, in segments that outlive a stop."""
