"""One stage a module: reads collections, calls models, writes collections. No Prefect."""
