"""The chat template of a checkpoint's tokenizer: from a prompt to the text of a conversation that asks it."""

import json
from collections.abc import Sequence
from pathlib import Path

from ebbtide.checkpoints.directory import tokenizer_directory
from ebbtide.checkpoints.hub.generation import TEMPLATE
from ebbtide.errors import ScoringError, first_line

CONFIG = "tokenizer_config.json"
TODAY = "strftime_now"  # a function of templates


def in_chat(directory: str | Path, prompts: Sequence[str], tokenizer: str | Path | None = None) -> list[str]:
    """Return each prompt as the message of a user, up to where the answer begins.

    `tokenizer` is the directory of the tokenizer; None: see `checkpoints.directory.tokenizer_directory`.
    Raises `ScoringError` for a checkpoint without a template, or one whose text depends on the day.
    """
    where = tokenizer_directory(directory, tokenizer)
    path, template = _template(where)
    if TODAY in json.dumps(template):
        raise ScoringError(
            f"chat_template: that of {path} writes today's date into each prompt, so that samples "
            "would depend on the day; replace it there, or remove the key chat_template from the task."
        )
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(where, local_files_only=True)  # type: ignore[no-untyped-call]
        return [
            str(
                loaded.apply_chat_template(
                    [{"role": "user", "content": prompt}],
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
            for prompt in prompts
        ]
    except Exception as error:  # a template is a program of the checkpoint's authors
        raise ScoringError(f"chat_template: that of {path} fails: {first_line(error)}.") from error


def _template(where: Path) -> tuple[Path, str]:
    """The file of the template and the template, of several in one file the one that is named `default`.

    A file of its own comes before the configuration, as in transformers.
    """
    own, path = where / TEMPLATE, where / CONFIG
    if own.exists():
        try:
            return own, own.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ScoringError(f"{own} is not UTF-8 ({first_line(error)}).") from None
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
    except FileNotFoundError:
        found = None
    except ValueError as error:
        raise ScoringError(f"{path} is not JSON ({first_line(error)}).") from None
    if isinstance(found, list):
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    if not isinstance(found, str):
        raise ScoringError(
            f"chat_template: {path} has no chat_template, and there is no {TEMPLATE} beside it; use "
            "checkpoints that were tuned for conversations, write the template there, or remove the key "
            "chat_template from the task."
        )
    return path, found
