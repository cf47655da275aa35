"""Sections of the stages that a study asks for by a section of its own, after Ganguli et al. (2022)."""

from ebbtide.report.page.section import Section
from ebbtide.statistics.abrupt.sentences import verdict_sentences
from ebbtide.statistics.compute_trends.sentences import growth_sentences, share_sentences
from ebbtide.statistics.fairness.sentences import ratio_sentences
from ebbtide.statistics.ratings.sentences import rating_sentences
from ebbtide.statistics.toxicity.sentences import continuation_sentences, toxicity_sentences

PREDICTABILITY = (
    Section(
        "abrupt",
        "Abrupt abilities",
        lambda tables: verdict_sentences(tables["abrupt"]),
        ("abrupt",),
        ("abrupt", "abrupt_points"),
        "The curve of right answers is compared with that of their log-probability, on the same examples: "
        "widths of both, and how much the log-probability has changed before right answers begin.",
        "abrupt.md",
    ),
    Section(
        "toxicity",
        "Toxicity of generated texts",
        lambda tables: [
            *toxicity_sentences(tables["toxicity"]),
            *(
                continuation_sentences(tables["toxic_continuations"])
                if "toxic_continuations" in tables
                else ()
            ),
        ],
        ("toxicity", "toxic_continuations"),
        ("toxicity", "toxic_continuations"),
        "Scores of samples by a classifier, by least squares on size and kind of prompt; errors are "
        "clustered by prompt, beside those of independent samples. Without sampling: log-likelihoods of "
        "toxic against other continuations that people wrote.",
        "toxicity.md",
    ),
    Section(
        "fairness",
        "Errors by group",
        lambda tables: ratio_sentences(tables["fairness"]),
        ("fairness",),
        ("fairness", "fairness_spread"),
        "Rates of false answers by group and their ratio, with intervals clustered by prompt; McNemar's "
        "exact test between conditions; several draws of shots.",
        "fairness.md",
    ),
    Section(
        "compute_trends",
        "Compute trends",
        lambda tables: [*growth_sentences(tables["compute_trends"]), *share_sentences(tables["academia"])],
        ("compute_trends", "academia", "timeline"),
        ("compute_trends", "timeline", "academia", "compute_models"),
        "log10 FLOP over the day of publication by least squares, with errors for unequal variances (HC3); "
        "models are taken as independent. The share is LOWESS of a 0/1 response, with and without robustness "
        "iterations.",
        "compute.md",
    ),
    Section(
        "ratings",
        "Ratings",
        lambda tables: rating_sentences(tables["ratings"], tables["ratings_law"]),
        ("ratings",),
        ("ratings", "ratings_law"),
        "The expected rating against the true one. Errors allow for ratings that share a user or an item; "
        "means are those of training ratings.",
        "ratings.md",
    ),
)
