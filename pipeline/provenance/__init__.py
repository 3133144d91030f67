"""Who made a result and what of it is synthetic: signed, written into it, and read again."""
