"""What every engine does with a call: its limits, its seeds, the tokens that end it, and its answers as a stream."""
