"""Configuration as text: TOML and `--set` to a `RunConfig` and back, with one line for each mistake."""
