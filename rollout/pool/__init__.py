"""Several engines as one: pieces of calls, handed to whoever has room, and handed on when a worker dies."""
