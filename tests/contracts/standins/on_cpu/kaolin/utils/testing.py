def check_tensor(tensor, shape=None, dtype=None, device=None, throw=True):
    agrees = tensor.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=False)
    )
    assert agrees or not throw
    return agrees
