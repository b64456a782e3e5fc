"""What the first message of every agent needs, done before the fork.

For zygote.py. No thread is started and nothing is opened here.
"""

import importlib
import json
import platform
import traceback

import launch


def import_everything(listed):
    """Imports what the first message of an agent needs; a name that cannot be had is left out."""
    import pydantic

    # Most of litellm's thousands of classes are never used: each is built when it first is.
    later = pydantic.BaseModel.model_config
    later["defer_build"] = True
    import aider.main  # noqa: F401
    from aider.llm import litellm

    litellm._load_litellm()
    for name in listed:
        try:
            importlib.import_module(name)
        except Exception:
            pass
    del later["defer_build"]


def rehearse():
    """Does once what every first message does first: tables, classes and caches for all agents."""
    from aider.args import get_parser
    from aider.exceptions import LiteLLMExceptions
    from aider.llm import litellm

    litellm.token_counter(model="ollama_chat/any", text="def first(words):\n    return words[0]\n" * 9)
    get_parser([], None)
    LiteLLMExceptions()
    platform.platform()
    for part in (launch.read_tables, rehearse_map, rehearse_request):
        try:
            part()
        except Exception:
            # It only saves time: the first message meets the same and says so.
            traceback.print_exc()


def rehearse_map():
    import networkx
    from grep_ast import TreeContext

    graph = networkx.MultiDiGraph([("a.py", "b.py", {"weight": 1.0}), ("b.py", "a.py", {"weight": 1.0})])
    networkx.pagerank(graph, weight="weight", personalization={"a.py": 1.0}, dangling={"a.py": 1.0})
    context = TreeContext("a.py", "def first(words):\n    return words\n", color=False)
    context.add_lines_of_interest([0])
    context.add_context()
    context.format()


def rehearse_request():
    """A whole request, but for the connection: that part of the client is replaced meanwhile."""
    import httpx
    from aider.llm import litellm

    chunk = {"model": "any", "message": {"role": "assistant", "content": "x"}, "done": False}

    def answer(self, request):
        return httpx.Response(200, content=json.dumps(chunk).encode() + b"\n")

    send = httpx.HTTPTransport.handle_request
    httpx.HTTPTransport.handle_request = answer
    try:
        # Its answer is not read: that would start threads.
        litellm.completion(
            model="ollama_chat/any",
            messages=[{"role": "user", "content": "x"}],
            stream=True,
            temperature=0,
            timeout=3600,
            num_ctx=8192,
            keep_alive="1m",
            api_base="http://127.0.0.1:9",
        )
    finally:
        httpx.HTTPTransport.handle_request = send
    litellm.ModelResponseStream()
    litellm.ModelResponse()
