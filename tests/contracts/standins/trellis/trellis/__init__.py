"""A stand-in for TRELLIS: its staged interface with its tensors' shapes, and a known object instead of networks."""
