"""Losses that students share, named for what they compare. The training engine knows none of them."""
