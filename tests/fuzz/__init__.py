"""Damaged and hostile files for whatever reads them."""
