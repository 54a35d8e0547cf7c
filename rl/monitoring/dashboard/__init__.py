"""The page with the accuracy curves: served into Ray's own dashboard, or written to one file."""
