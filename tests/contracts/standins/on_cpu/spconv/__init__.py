"""A stand-in for spconv: its submanifold convolution in PyTorch.

spconv 2.3.8 has code for CPUs, which gave sums that differed from call to call, and adds no biases in inference.
"""
