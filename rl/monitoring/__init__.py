"""Views of a run: terminal, curves, trackers, Ray metrics and the dashboard page."""
