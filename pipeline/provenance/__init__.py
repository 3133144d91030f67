"""The marking of results as synthetic: signed, embedded, and verified."""
