"""The memory of a server that is started anew: a database, and saved weights as files."""
