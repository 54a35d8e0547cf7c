"""The parts of a call that all engines share: limits, seeds, the tokens that end it, and answers as a stream."""
