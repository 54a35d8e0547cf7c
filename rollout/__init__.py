"""Prompts become completions. Knows no answers.

`types` says what flows, `config` what can be set, and `create` makes an engine: the one in `vllm`, or the plain one in
`torch`. `ray` has engines in actors, `pool` several of them as one, and `calls` what all of them do with a call.
"""
