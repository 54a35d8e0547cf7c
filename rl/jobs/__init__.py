"""Runs as jobs of a cluster: heads, packages of files, submission, logs, results."""
