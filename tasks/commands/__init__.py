"""What a person asks of a workspace."""
