from itertools import product

import torch


class ConvAlgo:
    Native = MaskImplicitGemm = None


class SparseConvTensor:
    """Features (N, C) at indices (N, 4): batch, x, y, z. The rest TRELLIS copies from one tensor to the next."""

    def __init__(self, features, indices, spatial_shape, batch_size, grid=None, voxel_num=None, indice_dict=None):
        self._features, self.indices = features, indices
        self.spatial_shape, self.batch_size = spatial_shape, batch_size
        self.grid, self.voxel_num, self.indice_dict = grid, voxel_num, indice_dict
        self.benchmark, self.benchmark_record, self.thrust_allocator = False, {}, None
        self._timer = self.force_algo = self.int8_scale = None

    @property
    def features(self):
        return self._features


class SubMConv3d(torch.nn.Module):
    """Outputs only where there are inputs. weight: (out, 3, 3, 3, in)."""

    def __init__(self, in_channels, out_channels, kernel_size, dilation=1, bias=True, indice_key=None, algo=None):
        super().__init__()
        assert dilation == 1
        self.out_channels, self.size = out_channels, kernel_size
        linear = torch.nn.Linear(in_channels * kernel_size**3, out_channels, bias=bias)
        shape = (out_channels, kernel_size, kernel_size, kernel_size, in_channels)
        self.weight = torch.nn.Parameter(linear.weight.detach().reshape(shape))
        self.bias = linear.bias

    def forward(self, tensor):
        indices_N4 = tensor.indices.long()
        sides = (indices_N4.max(dim=0).values + 3).tolist()  # a border, so that neighbours outside are found empty
        row_of = torch.full(sides, -1)
        batch_N, x_N, y_N, z_N = indices_N4.T
        row_of[batch_N, x_N + 1, y_N + 1, z_N + 1] = torch.arange(len(indices_N4))
        out_NC = torch.zeros(len(indices_N4), self.out_channels)
        half = self.size // 2
        for i, j, k in product(range(self.size), repeat=3):
            row_N = row_of[batch_N, x_N + 1 + i - half, y_N + 1 + j - half, z_N + 1 + k - half]
            there_N = row_N >= 0
            out_NC[there_N] += tensor.features[row_N[there_N]] @ self.weight[:, i, j, k].T
        out_NC = out_NC if self.bias is None else out_NC + self.bias
        return SparseConvTensor(out_NC, tensor.indices, tensor.spatial_shape, tensor.batch_size)
