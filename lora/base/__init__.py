"""The frozen base model: found, read from its files, loaded, and which of its layers an adapter may go on."""
