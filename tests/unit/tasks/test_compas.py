"""Defendants: who is analysed, what a prompt may say, and that no name gets any further."""

import json
from pathlib import Path

import pytest

from compas_file import BIRTH, CASE, HEADER, NAME, compas_csv, people
from ebbtide.errors import TaskError
from ebbtide.tasks.definition import CATALOGUE, read_definition, tasks_of
from ebbtide.tasks.freezing import frozen
from ebbtide.tasks.prepare import rows_of
from ebbtide.tasks.rows import Rows
from task_data import put

SOURCE = {"prepare": {"function": "compas"}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(*defendants: dict, header: list[str] = HEADER) -> Rows:
    Path("compas.csv").write_bytes(compas_csv(*defendants, header=header))
    return rows_of(Path("compas.csv"), SOURCE, "here")


def refused(*defendants: dict, header: list[str] = HEADER) -> str:
    with pytest.raises(TaskError) as error:
        rows(*defendants, header=header)
    return str(error.value)


def test_a_defendant_has_what_the_vignette_says_and_no_name() -> None:
    [row] = rows({})
    assert row == {
        **{"sex": "male", "age": 34, "race": "African-American", "charge": "Grand Theft"},
        **{"degree": "felony", "priors": 2, "juvenile_felonies": 0, "juvenile_misdemeanors": 1},
        **{"recidivist": 1, "decile": 6, "compas": "high", "vignette": 0},
    }


def test_those_that_propublica_left_out_are_left_out() -> None:
    out = [
        {"days_b_screening_arrest": "31"},
        {"days_b_screening_arrest": "-31"},
        {"days_b_screening_arrest": ""},
        {"is_recid": "-1"},
        {"c_charge_degree": "O"},
        {"score_text": "N/A"},
    ]
    kept = [{"days_b_screening_arrest": "30"}, {"days_b_screening_arrest": "-30", "c_charge_desc": " "}]
    assert [row["charge"] for row in rows(*out, *kept)] == ["Grand Theft", "an offence that is not stated"]


def test_equal_vignettes_share_a_number_whatever_the_race_and_the_answer() -> None:
    found = rows({}, {"race": "Caucasian"}, {"age": "35"}, {"two_year_recid": "0", "decile_score": "2"})
    assert [row["vignette"] for row in found] == [0, 0, 1, 0]
    assert [row["compas"] for row in found] == ["high", "high", "high", "low"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sex": "X"}, "compas.csv: line 2: sex: found 'X'; allowed: Male, Female."),
        ({"age": "old"}, "line 2: age: found 'old'; allowed: a whole number from 0."),
        ({"two_year_recid": "2"}, "line 2: two_year_recid: found '2'; allowed: 0 or 1."),
        ({"decile_score": "11"}, "line 2: decile_score: found '11'; allowed: 1 to 10."),
        ({"c_charge_degree": "Q"}, "line 2: c_charge_degree: found 'Q'; allowed: F, M."),
        ({"race": ""}, "line 2: race: found ''; allowed: a text."),
        ({"days_b_screening_arrest": "soon"}, "days_b_screening_arrest: found 'soon'"),
    ],
)
def test_values_that_cannot_be_are_refused(change: dict, sentence: str) -> None:
    message = refused(change)
    assert sentence in message
    assert NAME not in message and CASE not in message


def test_another_table_is_refused() -> None:
    assert "no column 'priors_count'" in refused({}, header=[n for n in HEADER if n != "priors_count"])
    content = compas_csv({}).decode().splitlines()
    cells = content[1].split(",")
    cells[[i for i, name in enumerate(HEADER) if name == "priors_count"][1]] = "9"
    Path("compas.csv").write_text("\n".join([content[0], ",".join(cells)]))
    with pytest.raises(TaskError, match=r"priors_count occurs twice, with '2' and '9'; allowed: equal"):
        rows_of(Path("compas.csv"), SOURCE, "here")
    Path("compas.csv").write_text("\n".join([content[0], ",".join(cells[:-1])]))
    with pytest.raises(TaskError, match="line 2 has 52 cells, but the header has 53 names"):
        rows_of(Path("compas.csv"), SOURCE, "here")


@pytest.mark.parametrize("name", ["compas_0", "compas_race_1", "compas_zero_shot"])
def test_no_name_reaches_a_frozen_task(name: str) -> None:
    definition = read_definition(CATALOGUE / f"{name}.yaml")
    data = put(compas_csv(*people(90)), "compas-scores-two-years.csv")
    source = {**{k: v for k, v in definition["source"].items() if k != "rows"}, **data}
    [task] = tasks_of({**definition, "source": source}, Path(f"{name}.yaml"))
    requests, footer = frozen(task)
    everything = requests.to_json() + json.dumps(footer)
    for secret in (NAME, "quillfeather", BIRTH, CASE):
        assert secret not in everything
    asked = requests[requests["choice"] == 0]
    assert asked["context"].str.contains("African-American").any() == ("race" in name)
    assert set(requests["continuation"]) == {" No", " Yes"}
    if name == "compas_zero_shot":
        assert len(asked) == 90 and asked["context"].str.startswith("The defendant is a ").all()
        return
    assert footer["shots_not_asked"] == 90 - len(asked) >= 50
    # The same 50 shots stand before all, with their answers; each is a part that may be left out.
    starts = {context[: parts[-1]] for context, parts in zip(asked["context"], asked["parts"], strict=True)}
    assert len(starts) == 1
    [shots] = starts
    assert shots.count("within two years?") == 50 and len(asked["parts"].iloc[0]) == 51
    assert all(shot.endswith((" Yes", " No")) for shot in shots.strip().split("\n"))
