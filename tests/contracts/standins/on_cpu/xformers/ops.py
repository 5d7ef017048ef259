import torch


class BlockDiagonalMask:
    def __init__(self, lengths, key_lengths):
        self.lengths, self.key_lengths = lengths, key_lengths

    @staticmethod
    def from_seqlens(q_seqlen, kv_seqlen=None):
        return BlockDiagonalMask(list(q_seqlen), list(kv_seqlen if kv_seqlen is not None else q_seqlen))


class fmha:  # noqa: N801
    BlockDiagonalMask = BlockDiagonalMask


def memory_efficient_attention(q, k, v, mask=None):
    """q, k, v: (B, N, H, C)."""
    if mask is None:
        return _attention(q, k, v)
    parts = zip(
        q.split(mask.lengths, dim=1), k.split(mask.key_lengths, dim=1), v.split(mask.key_lengths, dim=1), strict=True
    )
    return torch.cat([_attention(*part) for part in parts], dim=1)


def _attention(q, k, v):
    heads_first = [part.transpose(1, 2) for part in (q, k, v)]
    return torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)
