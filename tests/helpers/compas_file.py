"""A table in the shape of ProPublica's `compas-scores-two-years.csv`, with invented people."""

import csv
import io
from typing import Any

HEADER = [
    *("id", "name", "first", "last", "compas_screening_date", "sex", "dob", "age", "age_cat"),
    *("race", "juv_fel_count", "decile_score", "juv_misd_count", "juv_other_count"),
    *("priors_count", "days_b_screening_arrest", "c_jail_in", "c_jail_out", "c_case_number"),
    *("c_offense_date", "c_arrest_date", "c_days_from_compas", "c_charge_degree"),
    *("c_charge_desc", "is_recid", "r_case_number", "r_charge_degree", "r_days_from_arrest"),
    *("r_offense_date", "r_charge_desc", "r_jail_in", "r_jail_out", "violent_recid"),
    *("is_violent_recid", "vr_case_number", "vr_charge_degree", "vr_offense_date"),
    *("vr_charge_desc", "type_of_assessment", "decile_score", "score_text", "screening_date"),
    *("v_type_of_assessment", "v_decile_score", "v_score_text", "v_screening_date", "in_custody"),
    *("out_custody", "priors_count", "start", "end", "event", "two_year_recid"),
]
NAME, BIRTH, CASE = "zebulon quillfeather", "1961-02-30", "99009999CF10A"
DEFENDANT = {
    "name": NAME,
    "first": "zebulon",
    "last": "quillfeather",
    "dob": BIRTH,
    "c_case_number": CASE,
    "sex": "Male",
    "age": "34",
    "race": "African-American",
    "juv_fel_count": "0",
    "juv_misd_count": "1",
    "priors_count": "2",
    "decile_score": "6",
    "score_text": "Medium",
    "days_b_screening_arrest": "-1",
    "c_charge_degree": "F",
    "c_charge_desc": "Grand Theft",
    "is_recid": "1",
    "two_year_recid": "1",
}


def compas_csv(*rows: dict[str, Any], header: list[str] = HEADER) -> bytes:
    """The file with one line per row; what a row does not say is as in `DEFENDANT`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for number, row in enumerate(rows):
        values = {**DEFENDANT, "id": str(number), **row}
        writer.writerow([values.get(name, "") for name in header])
    return text.getvalue().encode()


def people(count: int) -> list[dict[str, Any]]:
    """Invented defendants: two races, all charges and answers, several with the same vignette."""
    return [
        {
            "race": ("African-American", "Caucasian", "Hispanic")[i % 3],
            "age": str(20 + i % 7),
            "sex": ("Male", "Female")[i % 2],
            "decile_score": str(1 + i % 10),
            "priors_count": str(i % 5),
            "c_charge_degree": "FM"[i // 2 % 2],
            "c_charge_desc": ("Battery", "Grand Theft", "")[i // 3 % 3],
            "two_year_recid": str((i * 7 // 3) % 2),
        }
        for i in range(count)
    ]
