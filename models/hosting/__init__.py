"""Heavy teachers in a process, and where they need it a Python environment, of their own.

`host` is the program that runs there, `client` starts, watches and replaces it, `messages` is what they say to each
other, and `runtimes` is the code that knows one teacher's library.
"""
