"""One policy: its trained numbers, its optimizer, its state as bytes."""
