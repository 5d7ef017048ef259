"""The stages: one module (or package) each. They read collections, call models and write collections; no Prefect."""
