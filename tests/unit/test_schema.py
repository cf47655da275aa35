"""One sentence per mistake in a YAML file, and defaults for what is left out."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.errors import ConfigError
from ebbtide.schema import check, key_path, load_schema, read_yaml

SCHEMA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "description": "a short name"},
        "size": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "colour": {"enum": ["red", "green"], "default": "red"},
        "limit": {"type": ["integer", "null"], "default": None},
        "tags": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "uniqueItems": True,
            "items": {"type": "string"},
        },
        "steps": {"anyOf": [{"const": "all"}, {"type": "array", "description": "a list of steps"}]},
        "inner": {
            "type": "object",
            "additionalProperties": False,
            "default": {},
            "properties": {"deep": {"type": "boolean", "default": True}},
        },
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "if": {"required": ["a"]},
                "then": {"$ref": "#/$defs/a"},
                "else": {"$ref": "#/$defs/b"},
            },
        },
    },
    "$defs": {
        "a": {"additionalProperties": False, "properties": {"a": {}, "more": {"default": 1}}},
        "b": {
            "additionalProperties": False,
            "required": ["b"],
            "properties": {"b": {}, "more": {"default": 2}},
        },
    },
}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            {"name": "a", "szie": 1},
            "szie: unknown key; did you mean 'size'? Allowed: name, size, share, colour, limit, tags, steps, "
            "inner, rows.",
        ),
        ({"nmae": "a"}, "nmae: unknown key;"),  # the typo, not the key that it made missing
        ({"name": "a", "inner": {"depe": 1}}, "inner.depe: unknown key; did you mean 'deep'? Allowed: deep."),
        ({}, "name: missing; expected: a short name."),
        ({"name": 5}, "name: found 5; allowed: string (a short name)."),
        ({"name": "A-1"}, "name: found 'A-1'; allowed: text that matches ^[a-z]+$ (a short name)."),
        ({"name": "a", "size": 0}, "size: found 0; allowed: at least 1."),
        ({"name": "a", "size": 10}, "size: found 10; allowed: at most 9."),
        ({"name": "a", "size": 2.0}, "size: found 2.0; allowed: integer."),
        ({"name": "a", "size": True}, "size: found True; allowed: integer."),
        ({"name": "a", "share": 0}, "share: found 0; allowed: more than 0."),
        ({"name": "a", "share": 1}, "share: found 1; allowed: less than 1."),
        ({"name": "a", "share": float("nan")}, "share: found nan; allowed: number."),
        ({"name": "a", "limit": "x"}, "limit: found 'x'; allowed: integer or null."),
        (
            {"name": "a", "colour": "greens"},
            "colour: found 'greens'; allowed: red, green; did you mean 'green'?",
        ),
        ({"name": "a", "colour": 7}, "colour: found 7; allowed: red, green."),
        ({"name": "a", "tags": []}, "tags: found []; allowed: at least 1 entries."),
        ({"name": "a", "tags": ["x", "x"]}, "tags: found ['x', 'x']; allowed: each entry once."),
        ({"name": "a", "tags": ["x", 1]}, "tags[1]: found 1; allowed: string."),
        ({"name": "a", "steps": "some"}, "steps: found 'some'; allowed: all or a list of steps."),
        ({"name": "a", "rows": [{"a": 1}, {"c": 1}]}, "rows[1].c: unknown key; allowed: b, more."),
        ({"name": "a", "rows": [{}]}, "rows[0].b: missing."),
        ({"name": "a", "rows": 5}, "rows: found 5; allowed: array."),
    ],
)
def test_a_mistake_is_one_sentence(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(document, SCHEMA, "study.yaml")
    assert str(error.value).startswith(f"ConfigError: study.yaml: {sentence}")
    assert "\n" not in str(error.value)


def test_a_long_value_is_cut_in_messages() -> None:
    with pytest.raises(ConfigError) as error:
        check({"name": "A" * 500}, SCHEMA, "study.yaml")
    assert len(str(error.value)) < 250


def test_defaults_are_filled_in_and_the_document_is_left_alone() -> None:
    document = {"name": "a", "rows": [{"a": 0}, {"b": 0}, {"b": 0, "more": 9}]}
    assert check(document, SCHEMA, "x") == {
        "name": "a",
        "size": 3,
        "colour": "red",
        "limit": None,
        "inner": {"deep": True},
        "rows": [{"a": 0, "more": 1}, {"b": 0, "more": 2}, {"b": 0, "more": 9}],
    }
    assert document == {"name": "a", "rows": [{"a": 0}, {"b": 0}, {"b": 0, "more": 9}]}
    check({"name": "a"}, SCHEMA, "x")["inner"]["deep"] = False
    assert check({"name": "a"}, SCHEMA, "x")["inner"] == {"deep": True}  # defaults are not shared


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_document_is_accepted_or_explained(document: Any) -> None:
    for top in (document, {"name": document}, {"name": "a", "rows": [document], "inner": document}):
        if isinstance(top, dict):
            try:
                check(top, SCHEMA, "x")
            except ConfigError as error:
                assert str(error).startswith("ConfigError: x: ")


def test_places_are_written_as_in_python() -> None:
    assert key_path(["models", 0, "steps"]) == "models[0].steps"
    assert key_path([]) == "(top level)"


def levels(count: int, first: str, of: str) -> str:
    """YAML with an alias of the level before at each level; `of` is a level, with `{0}` for that alias."""
    after = (f"l{i + 1}: &l{i + 1} {of.format(f'*l{i}')}\n" for i in range(count))
    return f"l0: &l0 {first}\n" + "".join(after)


BOMB = levels(9, "[x]", "[" + ", ".join(["{0}"] * 20) + "]")
MERGES = levels(25, "{x: y}", "{{<<: [{0}, {0}]}}")
DEEP = levels(60, "[x]", "[{0}]")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml: key 'a' is written twice (line 3)."),
        ("a:\n  b: 1\n  b: 2\n", "x.yaml: key 'b' is written twice (line 3)."),
        ("a: [1\n", "x.yaml is not valid YAML:"),
        ("[a]: 1\n", "x.yaml is not valid YAML:"),
        ("- a\n", "x.yaml: found ['a'], expected keys and values."),
        ("", "x.yaml is empty; expected keys and values."),
        ("a: " + "[" * 50, "x.yaml: values are nested more than 50 deep (line 1)."),
        ("a: " + "[" * 1_000_000, "x.yaml: values are nested more than 50 deep (line 1)."),
        ("a:\n" + "- " * 1_000_000, "x.yaml: values are nested more than 50 deep (line 2)."),
        (DEEP, "x.yaml: values are nested more than 50 deep (line 50)."),
        (BOMB, "x.yaml: aliases (*name) expand to more than 1,000,000 values (line 6)."),
        (MERGES, "x.yaml: aliases (*name) expand to more than 1,000,000 values (line 19)."),
        ("a: &a [*a]\n", "x.yaml: alias *a contains itself (line 1)."),
        ("a: &a\n  <<: *a\n", "x.yaml: alias *a contains itself (line 2)."),
        ("a: *b\n", "x.yaml is not valid YAML: found undefined alias"),
        ("a: 1" + ":59" * 200_000, "x.yaml: a number has 600001 characters, allowed: 100 (line 1)."),
        ("a: !!int '" + "1" * 5000 + "'", "x.yaml: a number has 5000 characters, allowed: 100 (line 1)."),
        ("a: 2020-13-45\n", "x.yaml is not valid YAML: month must be in 1..12."),
    ],
    ids=itertools.count(),
)
def test_unreadable_yaml_is_one_sentence(
    text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml("x.yaml")
    assert str(error.value).startswith(f"ConfigError: {sentence}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "it is a named pipe, not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a regular file"),
        (Path.mkdir, "it is a directory, not a regular file"),
        (
            lambda path: path.write_bytes(bytes(4_194_305)),
            "it has 4,194,305 bytes, at most 4,194,304 are read",
        ),
    ],
    ids=["pipe", "device", "directory", "large"],
)
def test_only_small_regular_files_are_read_as_yaml(make: Any, what: str, tmp_path: Path) -> None:
    make(tmp_path / "x.yaml")
    with pytest.raises(ConfigError) as error:
        read_yaml(tmp_path / "x.yaml")
    assert str(error.value) == f"ConfigError: {tmp_path / 'x.yaml'} cannot be read: {what}."


def test_values_of_usual_depth_number_and_length_are_read(tmp_path: Path) -> None:
    hex_digits = "1" * 64
    text = f"a: {'[' * 49}{']' * 49}\nb: &b {list(range(1000))}\nc: [{', '.join(['*b'] * 900)}]\n"
    text += f"d: '{hex_digits}'\ne: {'1' * 100}\nf: '{'1' * 5000}'\n"
    (tmp_path / "x.yaml").write_text(text)
    read = read_yaml(tmp_path / "x.yaml")
    assert sum(map(len, read["c"])) == 900_000
    assert (read["d"], read["e"], read["f"]) == (hex_digits, int("1" * 100), "1" * 5000)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    for name, sentence in (
        ("none.yaml", "does not exist"),
        ("latin.yaml", "cannot be read"),
        ("", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            read_yaml(tmp_path / name)


def test_merge_keys_of_yaml_are_no_repetition(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\n")
    assert read_yaml(tmp_path / "x.yaml")["more"] == {"a": 1, "b": 3}


def objects(schema: Any, place: str) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        return [found for item in schema for found in objects(item, place)]
    if not isinstance(schema, dict):
        return []
    here = [(place, schema)] if isinstance(schema.get("properties"), dict) else []
    return here + [found for key, value in schema.items() for found in objects(value, f"{place}.{key}")]


@pytest.mark.parametrize("name", ["config", "series", "task"])
def test_schemas_are_strict_and_describe_every_key(name: str) -> None:
    for place, schema in objects(load_schema(name), name):
        assert schema["additionalProperties"] is False, place
        for key, property_ in schema["properties"].items():
            assert "$ref" in property_ or property_.get("description") or "if" in property_, f"{place}.{key}"


def test_an_empty_key_says_what_is_allowed_and_whether_it_may_go() -> None:
    schema = {
        "type": "object",
        "required": ["study"],
        "properties": {
            "study": {"type": "string"},
            "runs": {
                "type": "object",
                "description": "How runs are compared",
                "properties": {"arms": {"type": "object"}, "last": {"enum": [1, 2]}},
            },
            "tasks": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "price": {"anyOf": [{"type": "number", "description": "a price"}, {"enum": ["free"]}]},
        },
    }

    def said(document: dict[str, Any]) -> str:
        with pytest.raises(ConfigError) as error:
            check({"study": "s"} | document, schema, "x.yaml")
        return str(error.value).removeprefix("ConfigError: ")

    last = "Fill it or delete the line."
    allowed = "allowed: object with keys arms, last (How runs are compared)"
    assert said({"runs": None}) == f"x.yaml: runs: empty; {allowed}. {last}"
    assert said({"runs": {"last": None}}) == f"x.yaml: runs.last: empty; allowed: 1, 2. {last}"
    assert said({"study": None}) == "x.yaml: study: empty; allowed: string. Fill it."
    assert said({"tasks": ["a", None]}) == f"x.yaml: tasks[1]: empty; allowed: string. {last}"
    assert said({"tasks": [None]}) == "x.yaml: tasks[0]: empty; allowed: string. Fill it."
    assert said({"price": None}).endswith("price: empty; allowed: a price or free. " + last)


def test_every_empty_section_of_a_study_is_one_sentence() -> None:
    schema = load_schema("config")
    for key in schema["properties"]:
        with pytest.raises(ConfigError, match=rf"x.yaml: {key}: empty; allowed: .*\. Fill it"):
            check({"study": "s", "models": [{"series": "a"}], "tasks": ["t"], key: None}, schema, "x.yaml")
