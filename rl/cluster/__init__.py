"""A run on Ray: joining or starting a cluster, reserving places on it, and the actors behind local interfaces."""
