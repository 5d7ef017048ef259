"""A stand-in for open3d: TRELLIS's text pipeline, which is not used, names one of its classes in a signature."""


class geometry:  # noqa: N801
    TriangleMesh = object
