"""Endpoints of OpenAI's API, and vLLM's for tokens in and tokens out, on the policies that are trained here."""
