"""Damaged and hostile files thrown at whatever reads them."""
