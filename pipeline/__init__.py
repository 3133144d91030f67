"""The three stages (extract, train, convert) and what they are made of."""
