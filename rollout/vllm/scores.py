"""Questions about prompts as requests to vLLM, of one token each.

A whole prompt's tokens come with one request (`prompt_logprobs`). Two things do not:

* Tokens that the prompt does not have in that place, which vLLM scores as the next one behind a beginning
  (`logprob_token_ids`), up to `MOST_TOKENS` a request.
* An adapter of the output layer on a GPU. vLLM 0.32 maps those to the rows that it samples, so its prompt logprobs lack
  them in all rows but the first few, and in those are the adapters of whatever the batch samples. So where an engine
  serves adapters of the head, every token is scored as the sampler would: as the next one behind its beginning, in a
  request of its own. (On a CPU, `rollout.vllm.patches.cpu_prompts` mends it.)
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rollout.calls.prompt_scores import answer
from rollout.types import PromptLogprobs, PromptQuery, TopLogprobs
from rollout.vllm.requests import likeliest

MOST_TOKENS = 128
"""Most tokens that one request scores by their ids (vLLM's `MAX_LOGPROB_TOKEN_IDS`)."""


@dataclass(frozen=True, slots=True)
class Score:
    """One request: the tokens of a prompt's first `end`, or what comes behind them."""

    index: int
    """The prompt."""
    end: int
    """Tokens of it that are read."""
    whole: bool = False
    """True for the logprobs of the tokens that are read, False for those behind them."""
    tokens: tuple[int, ...] = ()
    """The tokens that are scored behind them; empty for the likeliest ones."""
    top_k: int = 0

    def parameters(self) -> Any:
        """Return vLLM's parameters, which are for one greedy token: its distribution is at temperature 1."""
        from vllm import SamplingParams

        if self.whole:
            return SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=self.top_k, detokenize=False)
        if self.tokens:
            return SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=list(self.tokens), detokenize=False)
        return SamplingParams(max_tokens=1, temperature=0, logprobs=self.top_k, detokenize=False)

    def read(self, output: Any) -> Iterator[tuple[int, Mapping[int, Any]]]:
        """Yield each position that was scored, and vLLM's logprobs there by their tokens."""
        if self.whole:
            yield from enumerate(output.prompt_logprobs[1:], start=1)
        else:
            yield self.end, output.outputs[0].logprobs[0]


@dataclass(frozen=True, slots=True)
class Scores:
    """Prompts, what is asked of each, and the requests that answer it."""

    prompts: Sequence[Sequence[int]]
    queries: Sequence[PromptQuery]
    requests: list[Score]

    @classmethod
    def plan(
        cls, prompts: Sequence[Sequence[int]], queries: Sequence[PromptQuery], *, max_length: int, one_by_one: bool
    ) -> Self:
        """Choose the requests; `one_by_one` scores every token behind its own beginning.

        So does a prompt of `max_length` tokens, behind which vLLM has no room for the one that it always writes.
        """
        requests = list[Score]()
        for index, (prompt, query) in enumerate(zip(prompts, queries, strict=True)):
            whole = not one_by_one and len(prompt) < max_length
            if whole and query.positions(len(prompt)):
                requests.append(Score(index, len(prompt), whole=True, top_k=query.top_k))
            # The longest beginning goes first: the others find most of theirs in the prefix cache then.
            for end in range(len(prompt) - 1, 0, -1):
                requests += _behind(index, end, prompt, query, own=not whole)
        return cls(prompts, queries, requests)

    def beginnings(self) -> list[list[int]]:
        """Return what each request reads."""
        return [list(self.prompts[request.index][: request.end]) for request in self.requests]

    def parameters(self) -> list[Any]:
        """Return vLLM's parameters of each request."""
        return [request.parameters() for request in self.requests]

    def answers(self, outputs: Sequence[Any]) -> list[PromptLogprobs]:
        """Return the prompts' answers from vLLM's outputs of the requests."""
        by_token: list[dict[int, dict[int, float]]] = [defaultdict(dict) for _ in self.prompts]
        tops: list[dict[int, TopLogprobs]] = [{} for _ in self.prompts]
        for request, output in zip(self.requests, outputs, strict=True):
            for position, choices in request.read(output):
                by_token[request.index][position] |= {token: choice.logprob for token, choice in choices.items()}
                if request.top_k:
                    tops[request.index][position] = likeliest(choices, request.top_k)
        return [answer(*parts) for parts in zip(self.prompts, self.queries, by_token, tops, strict=True)]


def _behind(index: int, end: int, prompt: Sequence[int], query: PromptQuery, *, own: bool) -> Iterator[Score]:
    """Yield the requests for what comes behind a beginning; `own` is the prompt's own token, and the likeliest ones."""
    own = own and end in query.positions(len(prompt))
    targets = [token for token in query.targets[end - 1] if token != -1] if query.targets else []
    tokens = tuple(dict.fromkeys([prompt[end], *targets] if own else targets))
    for start in range(0, len(tokens), MOST_TOKENS):
        yield Score(index, end, tokens=tokens[start : start + MOST_TOKENS])
    if own and query.top_k:
        yield Score(index, end, top_k=query.top_k)
