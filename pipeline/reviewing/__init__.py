"""A person's crops shown for review: what is doubtful of each, the page, the summary picture."""
