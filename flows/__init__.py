"""Order, retries, fan-out and UI artifacts under Prefect, and the command line. Nothing below imports this."""
