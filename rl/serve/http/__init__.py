"""The HTTP front: its endpoints by protocol, bodies of bounded size, and how errors become statuses."""
