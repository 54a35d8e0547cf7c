"""Chat completions: messages to a prompt by the model's own template, and completions to messages with tool calls."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    FunctionCall,
    ToolCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionLogProb,
    ChatCompletionLogProbs,
    ChatCompletionLogProbsContent,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
    ChatMessage,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from lora.messages import first_line
from rl.serve.errors import Rejected
from rl.serve.http.openai.asked import sampling_of
from rl.serve.http.openai.draw import Stream, draw, open_stream
from rl.serve.service import Service
from rollout.calls.streams import joined
from rollout.config import SamplingConfig
from rollout.types import Completion, CompletionPart, TopLogprobs


async def complete_chat(service: Service, user: str, request: ChatCompletionRequest) -> dict[str, Any]:
    """Return the answer to a chat request, as JSON has it."""
    prompt, sampling, tops = _asked(service, request)
    drawn = await draw(service, user, request.model, prompt, sampling, seed=request.seed, top_logprobs=tops)
    # On a thread: thousands of tokens with their likeliest ones take seconds to turn into texts.
    choices = await asyncio.to_thread(
        lambda: [_choice(service, request, index, completion) for index, completion in enumerate(drawn.completions)]
    )
    response = ChatCompletionResponse(
        model=request.model or service.facts.name, choices=choices, usage=usage_of(len(prompt), drawn.sampled)
    )
    content = response.model_dump(exclude_unset=False, exclude_none=True) | {"policy_version": drawn.policy_version}
    return content | ({"prompt_token_ids": drawn.prompt} if request.return_token_ids else {})


async def stream_chat(service: Service, user: str, request: ChatCompletionRequest) -> AsyncGenerator[dict[str, Any]]:
    """Return the answer to a chat request in chunks, as JSON has them; a refusal comes before the first one."""
    prompt, sampling, tops = _asked(service, request)
    stream = await open_stream(service, user, request.model, prompt, sampling, seed=request.seed, top_logprobs=tops)
    return _chunks(service, request, stream)


async def _chunks(service: Service, request: ChatCompletionRequest, stream: Stream) -> AsyncGenerator[dict[str, Any]]:
    """Yield a chunk for each part; where tools may be called, for each whole choice, in which calls can be found."""
    chunk = ChatCompletionStreamResponse(
        model=request.model or service.facts.name, choices=[],
        prompt_token_ids=stream.prompt if request.return_token_ids else None,
    )  # fmt: skip
    begun: set[int] = set()
    sampled = 0
    async with aclosing(joined(stream.parts) if _may_call(service, request) else stream.parts) as parts:
        async for part in parts:
            sampled += len(part.token_ids)
            chunk.choices = [_part_choice(service, request, part, begins=part.index not in begun)]
            yield _chunk_json(chunk, stream)
            begun.add(part.index)
            chunk.prompt_token_ids = None
    if request.stream_options and request.stream_options.include_usage:
        chunk.choices, chunk.usage = [], usage_of(len(stream.prompt), sampled)
        yield _chunk_json(chunk, stream)


def _part_choice(
    service: Service, request: ChatCompletionRequest, part: CompletionPart, *, begins: bool
) -> ChatCompletionResponseStreamChoice:
    message, called = _message(service, request, part.text)
    calls = [
        DeltaToolCall(
            index=index, id=call.id, type="function",
            function=DeltaFunctionCall(name=call.function.name, arguments=call.function.arguments),
        )
        for index, call in enumerate(message.tool_calls)
    ]  # fmt: skip
    return ChatCompletionResponseStreamChoice(
        index=part.index,
        delta=DeltaMessage(role="assistant" if begins else None, content=message.content, tool_calls=calls),
        logprobs=_logprobs(service.tokenizer, part) if request.logprobs else None,
        finish_reason="tool_calls" if called and part.finish_reason == "stop" else part.finish_reason,
        token_ids=list(part.token_ids) if request.return_token_ids else None,
    )


def _chunk_json(chunk: ChatCompletionStreamResponse, stream: Stream) -> dict[str, Any]:
    return chunk.model_dump(exclude_none=True) | {"policy_version": stream.policy_version}


def _asked(service: Service, request: ChatCompletionRequest) -> tuple[list[int], SamplingConfig, int]:
    """Return a request's prompt, how its completions are drawn, and how many likeliest tokens are named."""
    if request.tools and request.tool_choice not in (None, "auto", "none"):
        raise Rejected(400, "tool_choice is served as 'auto' or 'none': this server forces no call of a tool")
    prompt = chat_prompt(service.tokenizer, request)
    most = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    sampling = sampling_of(request, service.facts, prompt, max_tokens=most)
    return prompt, sampling, request.top_logprobs or 0 if request.logprobs else 0


def chat_prompt(tokenizer: Any, request: ChatCompletionRequest) -> list[int]:
    """Return the tokens of a chat. Raises Rejected if the template refuses it."""
    if request.chat_template is not None:  # a program, which could keep the whole server busy
        raise Rejected(400, "chat_template is not served: leave it out, and send messages as the model's own has them")
    messages = _messages(request)
    tools = None if request.tools is None else [tool.model_dump(exclude_none=True) for tool in request.tools]
    try:
        prompt = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            tokenize=True,
            return_dict=False,
            **(request.chat_template_kwargs or {}),
        )
    except Exception as error:  # templates are programs of the model's makers
        raise Rejected(400, f"the model's chat template refused these messages: {first_line(error)}") from None
    if not isinstance(prompt, list):
        raise Rejected(
            400, "chat_template_kwargs changes how tokens are returned: leave return_tensors and the like out"
        )
    return cast("list[int]", prompt)


def usage_of(prompt: int, sampled: int) -> UsageInfo:
    """Return the usage of a request with so many tokens."""
    return UsageInfo(prompt_tokens=prompt, completion_tokens=sampled, total_tokens=prompt + sampled)


def _messages(request: ChatCompletionRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for message in request.messages:
        fields: dict[str, Any] = dict(message)  # pyright: ignore[reportArgumentType, reportCallIssue]
        content = fields.get("content")
        if isinstance(content, list):
            if any(part.get("type") != "text" for part in content):
                raise Rejected(400, "a message has a part that is no text: this server reads text only")
            fields["content"] = "".join(part["text"] for part in content)
        if fields.get("tool_calls") is not None:
            fields["tool_calls"] = [dict(call) for call in fields["tool_calls"]]
        messages.append(fields)
    return messages


def _choice(
    service: Service, request: ChatCompletionRequest, index: int, completion: Completion
) -> ChatCompletionResponseChoice:
    message, called = _message(service, request, completion.text)
    return ChatCompletionResponseChoice(
        index=index,
        message=message,
        logprobs=_logprobs(service.tokenizer, completion) if request.logprobs else None,
        finish_reason="tool_calls" if called and completion.finish_reason == "stop" else completion.finish_reason,
        token_ids=list(completion.token_ids) if request.return_token_ids else None,
    )


def _message(service: Service, request: ChatCompletionRequest, text: str) -> tuple[ChatMessage, bool]:
    """Return the message of a text, and whether it calls tools. The configured parser of vLLM's finds the calls."""
    if not _may_call(service, request):
        return ChatMessage(role="assistant", content=text), False
    parsed = tool_parser(service, request).extract_tool_calls(text, request)
    if not parsed.tools_called:
        return ChatMessage(role="assistant", content=text), False
    calls = [
        ToolCall(id=call.id, function=FunctionCall(name=call.function.name, arguments=call.function.arguments))
        for call in parsed.tool_calls
    ]
    return ChatMessage(role="assistant", content=parsed.content, tool_calls=calls), True


def _may_call(service: Service, request: ChatCompletionRequest) -> bool:
    """Return True if calls of tools are looked for in the answer."""
    return bool(request.tools) and request.tool_choice != "none" and service.config.tool_parser is not None


def tool_parser(service: Service, request: ChatCompletionRequest) -> Any:
    """Return vLLM's parser of tool calls. Raises Rejected if the configuration names one that there is not."""
    from vllm.tool_parsers import ToolParserManager

    name, tools = service.config.tool_parser or "", cast("Any", request.tools)
    try:
        return ToolParserManager.get_tool_parser(name)(service.tokenizer, tools)
    except (KeyError, TypeError) as error:
        raise Rejected(500, f"tool_parser {name!r} cannot be used: {first_line(error)}") from None


def _logprobs(tokenizer: Any, completion: Completion | CompletionPart) -> ChatCompletionLogProbs:
    tops = completion.top_logprobs or ((),) * len(completion.token_ids)
    rows = zip(completion.token_ids, completion.logprobs, tops, strict=True)
    return ChatCompletionLogProbs(content=[_content(tokenizer, *row) for row in rows])


def _content(tokenizer: Any, token: int, logprob: float, tops: TopLogprobs) -> ChatCompletionLogProbsContent:
    def named(token_id: int, value: float) -> ChatCompletionLogProb:
        text = tokenizer.decode([token_id])
        return ChatCompletionLogProb(token=text, logprob=value, bytes=list(text.encode()))

    own = named(token, logprob)
    return ChatCompletionLogProbsContent(
        token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=[named(*top) for top in tops]
    )
