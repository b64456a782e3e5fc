"""Starts Aider inside this process, for a supervisor that reads its terminal.

Usage: python -I -X utf8 launch.py -- AIDER-ARGUMENTS
       python -I -X utf8 launch.py --selftest

Three things differ from running `aider`:

1. Nothing in the repository or in the home directory configures it. `.aider.conf.yml`, `.env`,
   `.aider.model.settings.yml`, `.aider.model.metadata.json` and `AIDER_*` are not read; only the
   command line counts. No browser is opened, nothing is fetched at start, no crash report asked.
2. It reports what it does as cues in its own output: `ESC ]7717;<nonce>;<json> BEL`, ASCII, at
   most 2 KiB, written in one piece and in order with everything else that is printed. SIGUSR1
   makes it say its present state again.
3. Commit messages are the supervisor's: no model is asked for them.

Environment:
  SQUAD_CUE_NONCE       secret of the cues; removed before Aider is imported. Without it: no cues.
  SQUAD_AGENT_DIR       directory of this agent; receives `reply.md`.
  SQUAD_AGENT_HOME      what Aider takes for the home directory. Children keep the user's HOME.
  SQUAD_COMMIT_SUBJECT  file whose first line is the subject of the commits.
  SQUAD_AHEAD           set: the repository is read while the first prompt is waited for.

An agent may be started before its task is known. Its first prompt then begins with HANDOVER, and
`handover.json` in SQUAD_AGENT_DIR says what would have been in the arguments and the environment.

Every hook is listed in `attach`, and checked against the signature it was written for: an Aider
that does not fit ends with exit code 70 instead of running half supervised.
"""

import functools
import hashlib
import inspect
import json
import os
import pathlib
import signal
import sys
import threading
import time
import traceback

VERSION = "0.86.2"
CUE_LIMIT = 2000
EXIT_HOOKS = 70
EXIT_HANDOVER = 71
# Put before a prompt that would otherwise be taken for a command; removed again below.
LITERAL = "\u2060"
# Put before the first prompt of an agent that was started before its task was known.
HANDOVER = "\u2061"


class Cues:
    """Writes cues and remembers the present state for SIGUSR1."""

    def __init__(self, nonce, fd):
        self.nonce = nonce
        self.fd = fd
        self.number = 0
        self.sequence = 0
        self.state = {"state": "starting"}
        self.session = None
        self.lock = threading.RLock()

    def emit(self, cue, **fields):
        with self.lock:
            try:
                sys.stdout.flush()
            except Exception:
                pass
            self.write(cue, fields)

    def write(self, cue, fields):
        if not self.nonce:
            return
        self.sequence += 1
        payload = fit({"cue": cue, "s": self.sequence, **fields})
        data = f"\x1b]7717;{self.nonce};{payload}\x07".encode("ascii")
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except OSError:
            pass

    def enter(self, state, **fields):
        self.state = {"state": state, **fields}

    def repeat(self, *_):
        # A signal handler: it may interrupt a flush, so it only writes.
        app = getattr(self.session, "app", None)
        reading = bool(getattr(app, "is_running", False))
        self.write("state", {**self.state, "reading": reading})


def dump(payload):
    # The separator of OSC parameters never appears raw: in JSON it only occurs inside strings.
    return json.dumps(payload, ensure_ascii=True, separators=(",", ":")).replace(";", "\\u003b")


def fit(payload):
    text = dump(payload)
    while len(text) > CUE_LIMIT:
        lists = [k for k, v in payload.items() if isinstance(v, list) and v]
        texts = [k for k, v in payload.items() if isinstance(v, str) and len(v) > 40]
        if lists:
            payload[lists[0]] = payload[lists[0]][: len(payload[lists[0]]) // 2]
        elif texts:
            longest = max(texts, key=lambda k: len(payload[k]))
            payload[longest] = payload[longest][: len(payload[longest]) // 2]
        else:
            payload = {"cue": payload.get("cue"), "s": payload.get("s")}
        payload["cut"] = True
        text = dump(payload)
    return text


class HookMismatch(Exception):
    pass


def replace(owner, name, parameters, build):
    """Replaces owner.name by build(original) after checking that its parameters are as expected."""
    original = getattr(owner, name, None)
    label = f"{getattr(owner, '__name__', owner)}.{name}"
    if original is None:
        raise HookMismatch(f"{label} is missing")
    if parameters is not None:
        found = list(inspect.signature(original).parameters)
        if found[: len(parameters)] != parameters:
            raise HookMismatch(f"{label} takes {found}, not {parameters}")
    replacement = build(original)
    setattr(owner, name, replacement)


class Turn:
    """The coder at work, and how deep: architect mode runs an editor inside its own turn."""

    def __init__(self):
        self.coder = None
        self.depth = 0


def attach(cues, settings):
    """Puts every hook in place. The only list of what is expected of Aider."""
    import aider

    if aider.__version__ != VERSION:
        raise HookMismatch(f"Aider is {aider.__version__}, this launcher is for {VERSION}")
    import aider.main

    turn = Turn()
    attach_isolation(aider.main, settings)
    attach_models(settings)
    attach_reading(cues, turn, settings)
    attach_output(cues, settings)
    attach_work(cues, turn, settings)
    attach_commits(cues, settings)


def attach_isolation(main, settings):
    import webbrowser

    def only_arguments(original):
        return lambda default_config_files, git_root: original([], git_root)

    replace(main, "get_parser", ["default_config_files", "git_root"], only_arguments)
    def only_named(default_file, git_root, command_line_file):
        # Without an argument Aider names the repository's own file here.
        name = os.path.basename(command_line_file or default_file)
        return [] if name == default_file else [command_line_file]

    replace(
        main,
        "load_dotenv_files",
        ["git_root", "dotenv_fname", "encoding"],
        lambda _: lambda git_root, dotenv_fname, encoding="utf-8": [],
    )
    replace(
        main,
        "generate_search_path_list",
        ["default_file", "git_root", "command_line_file"],
        lambda _: only_named,
    )
    # It would ask on the terminal whether to open an issue in a browser.
    replace(main, "report_uncaught_exceptions", [], lambda _: lambda: None)
    # A first run imports everything before the prompt; later ones do it in the background.
    replace(
        main,
        "is_first_run_of_new_version",
        ["io", "verbose"],
        lambda _: lambda io, verbose=False: False,
    )
    # It would write a made-up identity into the repository's configuration.
    replace(main, "setup_git", ["git_root", "io"], lambda _: lambda git_root, io: git_root)
    replace(webbrowser, "open", ["url"], lambda _: lambda url, new=0, autoraise=True: False)

    from aider.linter import Linter
    from aider.repomap import RepoMap

    # It joins this to the worktree, where it would be in everyone's way; absolute, it stays out.
    if "TAGS_CACHE_DIR" not in vars(RepoMap):
        raise HookMismatch("RepoMap.TAGS_CACHE_DIR is missing")
    if settings["agent_dir"]:
        RepoMap.TAGS_CACHE_DIR = os.path.join(settings["agent_dir"], "tags")
    attach_map(RepoMap, settings)
    # It asks every installed package for plugins, for each file again: 50 ms a file.
    import pygments.lexers

    replace(pygments.lexers, "find_plugin_lexers", [], lambda _: lambda: iter(()))
    # flake8 loads plugins that a repository's setup.cfg names.
    replace(Linter, "flake8_lint", ["self", "rel_fname"], lambda _: lambda self, rel_fname: None)


def attach_map(RepoMap, settings):
    import aider.repomap

    # Compiled again for each file: as long as it takes to read a small one.
    compile_once = lambda original: functools.cache(original)  # noqa: E731
    replace(aider.repomap, "Query", None, compile_once)

    def quiet_ahead(original):
        def spinner(text, *args, **kwargs):
            thread = threading.current_thread()
            return thread if isinstance(thread, ReadAhead) else original(text, *args, **kwargs)

        return spinner

    replace(aider.repomap, "Spinner", ["text"], quiet_ahead)

    def in_memory(_):
        def load_tags_cache(self):
            self.TAGS_CACHE = {}

        return load_tags_cache

    # What a spare reads ahead is of use to itself alone.
    if settings["is_spare"]:
        replace(RepoMap, "load_tags_cache", ["self"], in_memory)


# Files of Aider's that a fork finds read, by their text.
TABLES = {}


def remember_tables(original):
    """A parser in Python reads this: a quarter of a second for the table that Aider brings."""

    def loads(text, *args, **kwargs):
        if text not in TABLES:
            TABLES[text] = original(text, *args, **kwargs)
        return TABLES[text]

    return loads


def read_tables():
    """For a process that agents are forked from."""
    import json5
    from aider import resources

    for folder in resources.__path__:
        text = pathlib.Path(folder, "model-metadata.json").read_text()
        remember_tables(json5.loads)(text)


def attach_models(settings):
    from aider import models
    from aider.llm import LazyLiteLLM, litellm

    replace(models.json5, "loads", ["s"], remember_tables)

    def local_first(original):
        def get_model_info(self, model):
            return self.local_model_metadata.get(model) or original(self, model)

        return get_model_info

    replace(models.ModelInfoManager, "get_model_info", ["self", "model"], local_first)
    replace(models.ModelInfoManager, "_update_cache", ["self"], lambda _: lambda self: None)

    def load_quietly(original):
        def _load_litellm(self):
            fresh = self._lazy_module is None
            original(self)
            if fresh:
                forget_show(self._lazy_module, models.model_info_manager)

        return _load_litellm

    replace(LazyLiteLLM, "_load_litellm", ["self"], load_quietly)
    # Imported ahead of the fork that this agent comes from.
    if litellm._lazy_module is not None:
        forget_show(litellm._lazy_module, models.model_info_manager)


def forget_show(litellm, manager):
    """litellm asks /api/show around every request, only for prices: answer from the metadata."""
    from litellm.llms.ollama.completion.transformation import OllamaConfig

    def from_metadata(original):
        def get_model_info(self, model, *args, **kwargs):
            bare = model.split("/", 1)[1] if model.startswith(("ollama/", "ollama_chat/")) else model
            known = manager.local_model_metadata.get("ollama_chat/" + bare)
            if not known:
                return original(self, model, *args, **kwargs)
            limit = known.get("max_tokens")
            return {
                "key": model,
                "litellm_provider": "ollama",
                "mode": "chat",
                "supports_function_calling": False,
                "input_cost_per_token": 0.0,
                "output_cost_per_token": 0.0,
                "max_tokens": limit,
                "max_input_tokens": known.get("max_input_tokens"),
                "max_output_tokens": known.get("max_output_tokens"),
            }

        return get_model_info

    replace(OllamaConfig, "get_model_info", ["self", "model"], from_metadata)


def attach_reading(cues, turn, settings):
    import aider.io
    from aider.coders import Coder
    from aider.commands import Commands

    InputOutput = aider.io.InputOutput
    asking = []

    class Session(aider.io.PromptSession):
        """Says what is about to be read, then reads it."""

        def prompt(self, *args, **kwargs):
            cues.session = self
            cues.number += 1
            number = cues.number
            if asking:
                return self.ask(number, asking[-1], args, kwargs)
            mode = getattr(turn.coder, "edit_format", "") or ""
            cues.enter("prompt", n=number, mode=mode)
            cues.emit("prompt", n=number, mode=mode)
            how, text = "end", None
            try:
                text = super().prompt(*args, **kwargs)
                how = "text"
                return text
            except KeyboardInterrupt:
                how = "interrupt"
                raise
            finally:
                cues.enter("busy")
                cues.emit("input", n=number, how=how, **measure(text))

        def ask(self, number, question, args, kwargs):
            cues.enter("question", n=number, **question)
            cues.emit("question", n=number, **question)
            answer = None
            try:
                answer = super().prompt(*args, **kwargs)
                return answer
            finally:
                cues.enter("busy")
                cues.emit("answered", n=number, answer=answer)

    aider.io.PromptSession = Session

    def coder_input(original):
        def get_input(self):
            turn.coder = self
            ahead = ReadAhead.start_once(self, settings)
            try:
                text = original(self)
            finally:
                ahead.stop()
            if text.startswith(HANDOVER):
                text = text[len(HANDOVER) :]
                # Only once, and only where a task is expected: a human may type anything.
                if settings.pop("is_spare", ""):
                    take_over(self, cues, settings)
            if text.startswith(LITERAL):
                text = text[len(LITERAL) :]
                settings["literal"] = text
            else:
                settings["literal"] = None
            return text

        return get_input

    replace(Coder, "get_input", ["self"], coder_input)

    def unless_literal(original):
        def is_command(self, inp):
            return inp is not settings.get("literal") and original(self, inp)

        return is_command

    replace(Commands, "is_command", ["self", "inp"], unless_literal)

    def confirm(original):
        def confirm_ask(self, question, default="y", subject=None, *args, **kwargs):
            asked = {"form": "confirm", "text": question, "subject": subject, "default": default}
            asked.update(facts(turn.coder, question, subject))
            asking.append(asked)
            try:
                return original(self, question, default, subject, *args, **kwargs)
            finally:
                asking.pop()

        return confirm_ask

    confirm_parameters = ["self", "question", "default", "subject", "explicit_yes_required"]
    replace(InputOutput, "confirm_ask", confirm_parameters, confirm)

    def prompt_text(original):
        def prompt_ask(self, question, default="", subject=None):
            asked = {"form": "text", "text": question, "subject": subject, "default": default}
            asking.append(asked)
            try:
                return original(self, question, default, subject)
            finally:
                asking.pop()

        return prompt_ask

    replace(InputOutput, "prompt_ask", ["self", "question", "default", "subject"], prompt_text)
    # It would ask to open a browser, on whatever machine the squad runs.
    offer_parameters = ["self", "url", "prompt", "allow_never"]
    never = lambda _: lambda self, url, prompt="", allow_never=True: False  # noqa: E731
    replace(InputOutput, "offer_url", offer_parameters, never)


class NotWanted(Exception):
    pass


class ReadAhead(threading.Thread):
    """Makes a map of the repository while an agent that was made ahead waits for its task.

    The map itself is thrown away, because it depends on the task; what it was made of is kept. The
    first message waits for the present step to end, and does what is missing, as ever.
    """

    def __init__(self, coder):
        super().__init__(daemon=True)
        self.coder = coder
        self.is_wanted = coder is not None

    @classmethod
    def start_once(cls, coder, settings):
        ahead = cls(coder if settings.pop("ahead", "") and coder.repo_map else None)
        if ahead.is_wanted:
            ahead.start()
        return ahead

    def run(self):
        coder = self.coder
        try:
            for name in coder.repo.get_tracked_files():
                self.step()
                coder.repo_map.get_tags(coder.abs_root_path(name), name)
            files = coder.get_all_abs_files()
            coder.repo_map.get_ranked_tags_map_uncached(set(), files)
        except NotWanted:
            pass
        except Exception:
            # The first message meets the same and says so.
            pass

    # It stands in for the spinner of the map, too.
    def step(self, text=None):
        if not self.is_wanted:
            raise NotWanted

    def end(self):
        pass

    def stop(self):
        self.is_wanted = False
        if self.is_alive():
            self.join()


def take_over(coder, cues, settings):
    """Makes this agent its task's: its files, its places, its environment."""
    path = os.path.join(settings["agent_dir"], "handover.json")
    try:
        with open(path, encoding="utf-8") as file:
            task = json.load(file)
    except (OSError, ValueError) as error:
        # Without it the work would go on in the wrong place: the supervisor starts another agent.
        cues.emit("error", text=f"the task was not handed over: {error}")
        os._exit(EXIT_HANDOVER)
    os.environ.update(task["env"])
    settings["agent_dir"] = task["agent_dir"]
    settings["subject_file"] = task["subject"]
    coder.io.chat_history_file = pathlib.Path(task["chat"])
    coder.io.llm_history_file = task["log"]
    coder.io.append_chat_history(time.strftime("\n# aider chat started at %Y-%m-%d %H:%M:%S\n\n"))
    ignored = are_ignored(coder, task["files"])
    for name in task["files"]:
        if ignored and coder.repo.git_ignored_file(name):
            coder.io.tool_warning(f"Skipping {name} that matches gitignore spec.")
        else:
            add_file(coder, pathlib.Path(name))
    for name in task["read"]:
        if os.path.exists(name):
            coder.abs_read_only_fnames.add(str(pathlib.Path(name).resolve()))
        else:
            coder.io.tool_warning(f"{name} is not there to be read.")


def are_ignored(coder, names):
    """Whether git ignores any of them: one process for all, where Aider takes one for each."""
    if not coder.repo or not names:
        return False
    try:
        return bool(coder.repo.repo.ignored(*names))
    except Exception:
        return True


def add_file(coder, path):
    """As Aider does with the files of its command line: one that is missing is made."""
    try:
        if not path.exists():
            # A new time would have it read again.
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    except OSError as error:
        return coder.io.tool_warning(f"Can not create {path}: {error}")
    if path.is_file():
        coder.abs_fnames.add(str(path.resolve()))


def measure(text):
    if text is None:
        return {}
    for mark in (HANDOVER, LITERAL):
        if text.startswith(mark):
            text = text[len(mark) :]
    data = text.encode("utf-8", "surrogateescape")
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def facts(coder, question, subject):
    """What is needed to answer "add this file?": is it inside, how big, how much room is left."""
    if coder is None or not subject or "\n" in subject or "file" not in question:
        return {}
    try:
        path = os.path.realpath(coder.abs_root_path(subject))
        root = os.path.realpath(coder.root)
        inside = os.path.commonpath([path, root]) == root and not in_git_dir(path, root)
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        return {"inside": inside, "tokens": size // 3, "room": room(coder)}
    except (OSError, ValueError):
        return {"inside": False}


def in_git_dir(path, root):
    return ".git" in pathlib.Path(os.path.relpath(path, root)).parts


def room(coder):
    limit = coder.main_model.info.get("max_input_tokens") or 0
    used = 0
    for name in set(coder.abs_fnames) | set(coder.abs_read_only_fnames):
        try:
            used += os.path.getsize(name)
        except OSError:
            pass
    for message in list(coder.done_messages) + list(coder.cur_messages):
        used += len(str(message.get("content") or "").encode("utf-8", "replace"))
    # The system prompt and the examples of an edit format take about 3,000 tokens.
    map_tokens = getattr(coder.repo_map, "max_map_tokens", 0) if coder.repo_map else 0
    return max(0, limit - used // 3 - map_tokens - 3000)


def attach_output(cues, settings):
    from aider.io import InputOutput

    def redact(text):
        base = settings.get("base")
        return str(text).replace(base, "http://gateway") if base else str(text)

    def spoken(cue):
        def build(original):
            def say(self, message="", strip=True):
                message = redact(message)
                if message.strip():
                    cues.emit(cue, text=message.strip())
                return original(self, message, strip)

            return say

        return build

    replace(InputOutput, "tool_error", ["self", "message", "strip"], spoken("error"))
    replace(InputOutput, "tool_warning", ["self", "message", "strip"], spoken("warning"))

    def noted(original):
        def tool_output(self, *messages, log_only=False, bold=False):
            messages = [redact(message) for message in messages]
            if messages and messages[0].startswith("Retrying in "):
                cues.emit("retry", text=messages[0])
            return original(self, *messages, log_only=log_only, bold=bold)

        return tool_output

    replace(InputOutput, "tool_output", ["self", "messages", "log_only", "bold"], noted)


def attach_work(cues, turn, settings):
    from aider.coders import Coder

    def one_turn(original):
        def run_one(self, user_message, preproc):
            outer = turn.coder
            turn.coder = self
            turn.depth += 1
            try:
                return original(self, user_message, preproc)
            finally:
                turn.depth -= 1
                if turn.depth == 0:
                    save_reply(cues, settings, self)
                turn.coder = outer

        return run_one

    replace(Coder, "run_one", ["self", "user_message", "preproc"], one_turn)

    def updates(original):
        def apply_updates(self):
            edited = original(self)
            if edited:
                cues.emit("edited", files=sorted(str(path) for path in edited))
            return edited

        return apply_updates

    replace(Coder, "apply_updates", ["self"], updates)

    def usage(original):
        def show_usage_report(self):
            if self.usage_report:
                sent, received = self.message_tokens_sent, self.message_tokens_received
                cues.emit("tokens", sent=sent, received=received)
            return original(self)

        return show_usage_report

    replace(Coder, "show_usage_report", ["self"], usage)


def save_reply(cues, settings, coder):
    reply = getattr(coder, "partial_response_content", "") or ""
    directory = settings.get("agent_dir")
    if not directory or not reply.strip():
        return
    data = reply.encode("utf-8", "replace")
    path = os.path.join(directory, "reply.md")
    try:
        with open(path + ".new", "wb") as file:
            file.write(data)
        os.replace(path + ".new", path)
    except OSError as error:
        cues.emit("warning", text=f"the reply could not be kept: {error}")
        return
    head = " ".join(reply.split())[:200]
    cues.emit("reply", bytes=len(data), mode=coder.edit_format or "", text=head)


def attach_commits(cues, settings):
    from aider.repo import GitRepo

    def subject():
        try:
            with open(settings["subject_file"], encoding="utf-8") as file:
                line = file.readline().strip()
        except (OSError, KeyError, TypeError):
            line = ""
        return line or "squad: edit"

    def message(_):
        def get_commit_message(self, diffs, context, user_language=None):
            return subject() if context else f"Work in progress before: {subject()}"

        return get_commit_message

    parameters = ["self", "diffs", "context", "user_language"]
    if not settings.get("aider_messages"):
        replace(GitRepo, "get_commit_message", parameters, message)

    def committed(original):
        def commit(self, *args, **kwargs):
            made = original(self, *args, **kwargs)
            if made:
                cues.emit("commit", hash=self.get_head_commit_sha() or made[0])
            return made

        return commit

    replace(GitRepo, "commit", ["self", "fnames", "context", "message", "aider_edits"], committed)


def live_in(home):
    """Aider finds this where it asks for the home directory; its children keep the user's."""
    pathlib.Path(home).mkdir(parents=True, exist_ok=True)
    pathlib.Path.home = classmethod(lambda cls: cls(home))


def take_settings():
    """Reads our own variables and drops every variable that would configure Aider."""
    environ = os.environ
    settings = {
        "nonce": environ.pop("SQUAD_CUE_NONCE", ""),
        "agent_dir": environ.get("SQUAD_AGENT_DIR"),
        "subject_file": environ.get("SQUAD_COMMIT_SUBJECT"),
        "is_spare": environ.get("SQUAD_AHEAD", ""),
        "ahead": environ.pop("SQUAD_AHEAD", ""),
        "aider_messages": environ.pop("SQUAD_AIDER_COMMIT_MESSAGES", ""),
        "base": environ.get("OLLAMA_API_BASE"),
    }
    for name in [name for name in environ if name.upper().startswith("AIDER_")]:
        del environ[name]
    home = environ.get("SQUAD_AGENT_HOME")
    if home:
        live_in(home)
    defaults = {
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in defaults.items():
        environ.setdefault(name, value)
    return settings


def selftest(settings):
    attach(Cues("", 1), settings)
    from aider.llm import litellm

    litellm._load_litellm()
    python = ".".join(str(part) for part in sys.version_info[:3])
    print(json.dumps({"aider": VERSION, "python": python, "hooks": "attached"}))
    return 0


def run(argv, settings):
    cues = Cues(settings["nonce"], 1)
    signal.signal(signal.SIGUSR1, cues.repeat)
    attach(cues, settings)
    import aider.main

    cues.emit("start", aider=VERSION, pid=os.getpid())
    cues.enter("starting")
    sys.argv = ["aider", *argv]
    code = 1
    try:
        result = aider.main.main(argv)
        code = result if isinstance(result, int) else 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        traceback.print_exc()
        cues.emit("error", text=f"Aider ended by {type(error).__name__}: {error}")
    cues.enter("exited", code=code)
    cues.emit("exit", code=code)
    return code


def main():
    # Ignored until the handler is there: the default action would end the process.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    settings = take_settings()
    arguments = sys.argv[1:]
    try:
        if arguments == ["--selftest"]:
            return selftest(settings)
        if arguments[:1] != ["--"]:
            print("usage: launch.py -- AIDER-ARGUMENTS | --selftest", file=sys.stderr)
            return 64
        return run(arguments[1:], settings)
    except HookMismatch as error:
        print(f"this Aider cannot be supervised: {error}", file=sys.stderr)
        return EXIT_HOOKS
    except ImportError as error:
        print(f"Aider cannot be imported: {error}", file=sys.stderr)
        return EXIT_HOOKS


if __name__ == "__main__":
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    # litellm leaves idle threads behind that a normal exit would wait for.
    os._exit(status)
