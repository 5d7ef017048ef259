"""Collections: a stage's per-item output on disk, as records and shards. DESIGN: "The on-disk protocol"."""
