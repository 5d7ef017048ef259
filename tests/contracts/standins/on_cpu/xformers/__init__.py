"""A stand-in for xformers: its attention, block-diagonal masks included, by PyTorch's own."""
