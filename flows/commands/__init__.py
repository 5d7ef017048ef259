"""The verbs of the `lostwax` command. flows/cli.py lists them."""
