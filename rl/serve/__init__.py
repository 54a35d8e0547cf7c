"""The service: one base model, many adapters, trained and sampled by clients through Tinker's protocol and OpenAI's."""
