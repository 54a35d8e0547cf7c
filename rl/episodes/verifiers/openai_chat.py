"""Chats as OpenAI's protocol has them: requests are read, and answers written, whole or as a stream of events."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rl.episodes.environment import Message
from rl.episodes.tools.calls import ToolCall

Table = dict[str, Any]


THOUGHT_END = "</think>"
"""Ends the thoughts of models that think."""


class UnplayableError(Exception):
    """A request that an episode cannot go on with."""


class BudgetError(Exception):
    """A request for more turns or tokens than an episode may have."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request for a turn."""

    messages: list[Message]
    """Texts, with calls of tools whose arguments are mappings where they are JSON of one."""
    tools: list[Table]
    """Schemas of tools; none may be called where there are none."""
    model: str


def chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """Return what is asked for. Raises UnplayableError if it is nothing that an episode can answer."""
    try:
        return _chat_request(body)
    except (AttributeError, TypeError, ValueError) as error:  # a program of the policy's own may have written it
        raise UnplayableError(f"its request is no chat as OpenAI's protocol has them: {error}") from None


def _chat_request(body: Mapping[str, Any]) -> ChatRequest:
    if body.get("n") not in (None, 1):
        raise UnplayableError("it asks for several answers at once (n), and an episode has one chain of turns")
    if body.get("tool_choice") not in (None, "auto", "none"):
        raise UnplayableError("it forces a call of a tool (tool_choice), which is not sampled from the policy")
    if dict(body.get("response_format") or {}).get("type") not in (None, "text"):
        raise UnplayableError("it forces a form of the answer (response_format), which is not sampled from the policy")
    messages, tools = body.get("messages"), body.get("tools") or []
    if not isinstance(messages, list) or not messages or not isinstance(tools, list):
        raise UnplayableError("it has no messages")
    read = [_message(message) for message in cast("list[Any]", messages)]
    offered = [] if body.get("tool_choice") == "none" else cast("list[Table]", tools)
    return ChatRequest(read, offered, str(body.get("model", "")))


def _message(message: Any) -> Message:
    if not isinstance(message, dict):
        raise UnplayableError("a message is no mapping")
    fields = cast("Table", message)
    role = fields.get("role")
    if not isinstance(role, str):
        raise UnplayableError("a message has no role")
    read: Table = {"role": role, "content": _text(fields.get("content"))}
    if fields.get("tool_calls"):
        read["tool_calls"] = [_call(call) for call in cast("list[Table]", fields["tool_calls"])]
    return read | {name: fields[name] for name in ("tool_call_id", "name") if isinstance(fields.get(name), str)}


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return (content or "").encode("utf-8", "replace").decode()
    if not isinstance(content, list):
        raise UnplayableError("a message has a content that is no text")
    parts = cast("list[Table]", content)
    if any(part.get("type") != "text" for part in parts):
        raise UnplayableError("a message has a part that is no text, such as an image")
    return "".join(str(part.get("text", "")) for part in parts).encode("utf-8", "replace").decode()


def _call(call: Table) -> Table:
    function = dict(call.get("function") or {})
    arguments = function.get("arguments", "")
    return {
        "id": str(call.get("id", "")),
        "type": "function",
        "function": {"name": str(function.get("name", "")), "arguments": _arguments(arguments)},
    }


def _arguments(arguments: Any) -> Any:
    """Return arguments as a mapping, which chat templates want, or as the text that they are."""
    if not isinstance(arguments, str):
        return arguments
    try:
        read = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return cast("Any", read) if isinstance(read, dict) else arguments


def spoken(content: str, calls: Sequence[ToolCall]) -> Table:
    """Return the policy's message, its thoughts apart from what it says."""
    thoughts, end, spoken_text = content.rpartition(THOUGHT_END)
    message: Table = {"role": "assistant", "content": spoken_text.strip() if end else content}
    if end:
        message["reasoning_content"] = thoughts.removeprefix("<think>").strip()
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return message


def same(sent: Message, come_back: Message) -> bool:
    """Return True if a message has come back as it was: white space at its ends is the program's to keep or not."""

    def essence(message: Message) -> Any:
        calls = [(c["function"]["name"], _arguments(c["function"]["arguments"])) for c in message.get("tool_calls", ())]
        return message["role"], message["content"].strip(), message.get("tool_call_id"), calls

    return essence(sent) == essence(come_back)


def completion(model: str, message: Table, finish_reason: str, prompt_tokens: int, sampled: int) -> Table:
    """Return an answer."""
    return {
        "id": f"chatcmpl-{model}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": sampled,
            "total_tokens": prompt_tokens + sampled,
        },
    }


def events(answer: Table) -> Iterator[bytes]:
    """Yield an answer as a stream of events: one with all of it, one with the counts, and the end."""
    (choice,) = answer["choices"]
    message = choice["message"]
    calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls", ()))]
    delta = {**message, **({"tool_calls": calls} if calls else {})}
    chunk = {**answer, "object": "chat.completion.chunk", "usage": None}
    whole = {"index": 0, "delta": delta, "finish_reason": choice["finish_reason"]}
    for part in ({**chunk, "choices": [whole]}, {**chunk, "choices": [], "usage": answer["usage"]}):
        yield b"data: " + json.dumps(part).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def refusal(error: Exception) -> Table:
    """Return an error as OpenAI's servers write it; a used-up budget is a full context, which programs know."""
    code = "context_length_exceeded" if isinstance(error, BudgetError) else "invalid_request_error"
    return {"error": {"message": str(error), "type": "invalid_request_error", "code": code, "param": None}}
