"""What knows one teacher's library: `load(settings, device) -> generate`, run by `models.hosting.host`.

A runtime lives in the teacher's own Python environment: beside the library it may import the standard library, NumPy,
`models.errors` and `models.hosting.messages`.
"""
