"""What the README's figures come from, one command each; `make bench` runs them all."""
