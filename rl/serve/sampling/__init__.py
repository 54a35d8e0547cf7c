"""Sources that clients sample from, and requests for samples on their way to the engines."""
