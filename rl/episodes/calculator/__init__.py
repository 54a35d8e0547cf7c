"""A calculator that reads Python and reaches nothing but numbers."""
