"""Lets the real TRELLIS run without a GPU, without its compiled extensions and without a network.

On PYTHONPATH of a process that runs it: what TRELLIS puts on "cuda" lies on the CPU, the packages beside this file
stand in for compiled ones, and DINOv2 is a random projection with its shapes (1 class token, 4 registers, 37 x 37
patches, 1024 channels). With a GPU only packages that are missing, and DINOv2, are replaced.
"""

import sys
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

HERE = str(Path(__file__).parent)


class OnCpu(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.cuda:
            return args[0]
        args = ["cpu" if is_cuda(value) else value for value in args]
        return func(*args, **{name: "cpu" if is_cuda(value) else value for name, value in (kwargs or {}).items()})


def is_cuda(value):
    return isinstance(value, (str, torch.device)) and str(value).startswith("cuda")


class TinyDino(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 1024, 14, stride=14)
        self.prefix = torch.nn.Parameter(torch.randn(1, 5, 1024))

    def forward(self, image, is_training):
        assert is_training
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        return {"x_prenorm": torch.cat([self.prefix.expand(len(image), -1, -1), tokens], dim=1)}


def load_dino(repository, name, **_):
    assert repository == "facebookresearch/dinov2"
    torch.manual_seed(0)
    return TinyDino()


torch.hub.load = load_dino
if torch.cuda.is_available():
    sys.path.remove(HERE)
    sys.path.append(HERE)  # at the end: what is installed comes first
else:
    OnCpu().__enter__()
