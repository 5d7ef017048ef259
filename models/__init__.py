"""Code with maths or weights. Nothing here opens a workspace, and nothing heavy happens at import."""
