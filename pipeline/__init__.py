"""The three stages (extract, train, convert) and what they are made of."""

__version__ = "0.1.0"
