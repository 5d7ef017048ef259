"""A student of a kind that lostwax does not know, brought by another package: how large an object is."""
