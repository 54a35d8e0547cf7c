"""Files and bytes that are whole or not there, and nothing else that only has a file's name."""
