"""The figures: what is drawn, in which order, and that equal metrics make equal files."""

import subprocess
import sys
import warnings
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.image as mpl_image
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from ebbtide.errors import FigureError
from ebbtide.figures import ability_rows, ability_titles, plot_curves, plot_heat, plot_paper, save
from ebbtide.figures.curves import POINTS_PER_LINE
from ebbtide.figures.theme import COLUMN_CM, compact, line_looks, palette, powers_of_ten, shapes
from ebbtide.metrics.direction import with_properties
from ebbtide.titles import abilities, title

LADDER = {"ladder-d8": 888, "ladder-d16": 6592, "ladder-d32": 25472, "ladder-d64": 150080}
LABELS = ["ladder-d8 (888)", "ladder-d16 (6.59K)", "ladder-d32 (25.5K)", "ladder-d64 (150K)"]
TASKS = {"memo_trap": 0.5, "fact_qa": 0.25}
STEPS = (0, 16, 128, 1024)


def make(models=LADDER, tasks=TASKS, steps=STEPS) -> pd.DataFrame:
    """Metrics of a small ladder, models listed from the largest: not the order of the legend."""
    rows = [
        {
            "model": model,
            "checkpoint": f"step{step}",
            "step": step,
            "tokens": step * 1024,
            "parameters_total": 2 * parameters,
            "parameters_non_embedding": parameters,
            "task": task,
            "metric": "accuracy",
            "value": chance + (0.02 * i + 0.01) * np.log2(1 + step) / 5,
            "stderr": 0.03,
            "n": 200,
            "chance": chance,
            "source": "scored",
        }
        for i, (model, parameters) in reversed(list(enumerate(models.items())))
        for task, chance in tasks.items()
        for step in steps
    ]
    return with_properties(pd.DataFrame(rows))


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    """Drawing must not warn: a warning of every run hides the one that matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw(plot):
    """The drawn figure, laid out."""
    figure = plot.draw()
    figure.canvas.draw()
    return figure


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def lines(panel) -> list:
    """The lines of models in one panel; a band's outline has no colour."""
    return [line for line in panel.lines if line.get_color() != "none"]


def bands(panel) -> list:
    return [item for item in panel.collections if isinstance(item, PolyCollection)]


def segments(panel, *, vertical: bool) -> list:
    """Straight segments in one panel: bars stand, chance lies."""
    found = [s for c in panel.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    return [s for s in found if (s[0][0] == s[1][0]) == vertical]


def points(panel) -> np.ndarray:
    """Places of checkpoints; the white dots on some of them do not count."""
    return offsets(panel, lambda dot: not is_white(dot))


def best_points(panel) -> set[tuple[float, float]]:
    return {(round(x, 5), round(y, 5)) for x, y in offsets(panel, is_white)}


def is_white(collection) -> bool:
    face = collection.get_facecolor()
    return len(face) > 0 and tuple(face[0][:3]) == (1, 1, 1)


def offsets(panel, which) -> np.ndarray:
    found = [c.get_offsets() for c in panel.collections if isinstance(c, PathCollection) and which(c)]
    return np.concatenate([np.asarray(places) for places in found])


# --- curves --------------------------------------------------------------------------------


def test_a_line_per_model_in_every_panel():
    metrics = make()
    panels = draw(plot_curves(metrics)).axes

    assert len(panels) == len(TASKS)
    for panel, task in zip(panels, TASKS, strict=True):
        assert len(lines(panel)) == len(LADDER)
        drawn = sorted(tuple(np.round(line.get_ydata().to_numpy(), 6)) for line in lines(panel))
        of_task = metrics[(metrics.task == task) & (metrics.tokens > 0)]
        assert drawn == sorted(tuple(v.round(6)) for _, v in of_task.groupby("model")["value"])
        for line in lines(panel):
            assert list(line.get_xdata()) == pytest.approx(np.log10([16384, 131072, 1048576]))


def test_the_legend_lists_models_by_size_with_their_counts():
    text = words(draw(plot_curves(make(), width_cm=COLUMN_CM)))  # too narrow for names at the ends

    assert [word for word in text if word in LABELS] == LABELS
    assert "Model (non-embedding parameters)" in text


def test_colour_and_shape_follow_size():
    panel = draw(plot_curves(make())).axes[0]

    by_last_value = sorted(lines(panel), key=lambda line: max(line.get_ydata()))  # value grows with size
    assert [to_hex(line.get_color()) for line in by_last_value] == palette(4)
    assert len(set(shapes(8))) == len(set(palette(8))) == 8


def test_models_of_one_size_have_one_colour_and_differ_by_shape_and_dash():
    models = {f"{name}-{kind}": size for name, size in LADDER.items() for kind in ("pile", "deduped")}
    panel = draw(plot_curves(make(models), width_cm=COLUMN_CM)).axes[0]
    of_models = sorted(lines(panel), key=lambda line: palette(4).index(to_hex(line.get_color())))
    looks = line_looks(sorted(models.values()))

    assert [to_hex(line.get_color()) for line in of_models] == looks.colours
    assert looks.colours == [colour for colour in palette(4) for _ in range(2)]
    assert [line.get_linestyle() for line in of_models] == ["-", "--"] * 4
    assert all(one != other for one, other in zip(looks.shapes[::2], looks.shapes[1::2], strict=True))


def test_without_three_known_sizes_every_model_has_its_own_colour():
    for models in ({"a": 10, "b": 10, "c": 100, "d": 100}, {"a": 10, "b": 10, "c": 100, "d": 0, "e": 1000}):
        looks = line_looks(list(models.values()))
        assert looks.colours == palette(len(models))
        assert looks.dashes == ["solid"] * len(models)


def test_equal_parameter_counts_are_ordered_by_name_and_unknown_ones_come_last():
    models = {"twin-b": 888, "twin-a": 888, "nobody": 0}
    text = words(draw(plot_curves(make(models), width_cm=COLUMN_CM)))

    assert [word for word in text if word.startswith(("twin", "nobody"))] == [
        "twin-a (888)",
        "twin-b (888)",
        "nobody",
    ]


def test_chance_is_a_dashed_line_in_its_own_panel():
    panels = draw(plot_curves(make(), width_cm=COLUMN_CM)).axes

    for panel, chance in zip(panels, TASKS.values(), strict=True):
        lying = segments(panel, vertical=False)
        assert [s[:, 1].tolist() for s in lying] == [[chance, chance]]
        (dashes,) = [c for c in panel.collections if isinstance(c, LineCollection)]
        assert dashes.get_linestyle()[0][1] is not None


def test_no_chance_line_where_chance_is_unknown():
    metrics = make()
    metrics.loc[metrics.task == "fact_qa", "chance"] = np.nan
    known, unknown = draw(plot_curves(metrics, width_cm=COLUMN_CM)).axes

    assert len(segments(known, vertical=False)) == 1
    assert segments(unknown, vertical=False) == []


def test_bands_are_z_standard_errors_wide():
    panel = draw(plot_curves(make({"one": 888}))).axes[0]

    (band,) = bands(panel)
    (line,) = lines(panel)
    y = band.get_paths()[0].vertices[:, 1]
    assert y.min() == pytest.approx(line.get_ydata().min() - 1.959964 * 0.03, abs=1e-6)
    assert y.max() == pytest.approx(line.get_ydata().max() + 1.959964 * 0.03, abs=1e-6)


def test_bands_are_cut_at_0_and_1_for_shares_only():
    metrics = make({"one": 888}, {"low": 0.5, "high": 0.5})
    metrics["value"] = metrics["task"].map({"low": 0.01, "high": 0.99})
    low, high = (bands(p)[0].get_paths()[0].vertices[:, 1] for p in draw(plot_curves(metrics)).axes)
    assert low.min() == 0
    assert high.max() == 1

    # A loss below 1 is not a share: its band may pass 1.
    loss = with_properties(metrics.assign(metric="classification_loss"))
    high = bands(draw(plot_curves(loss)).axes[1])[0]
    assert high.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.99 + 1.959964 * 0.03, abs=1e-6)


def test_no_band_passes_over_a_checkpoint_whose_error_is_unknown():
    metrics = make({"one": 888}, {"memo_trap": 0.5}, (1, 2, 4, 8, 16))
    metrics.loc[metrics.step == 4, "stderr"] = np.nan
    panel = draw(plot_curves(metrics)).axes[0]

    spans = [band.get_paths()[0].vertices[:, 0] for band in bands(panel)]
    assert sorted((round(10 ** x.min()), round(10 ** x.max())) for x in spans) == [
        (1024, 2048),
        (8192, 16384),
    ]
    assert len(lines(panel)[0].get_xdata()) == 5


def test_no_interval_without_standard_errors():
    panel = draw(plot_curves(make().assign(stderr=np.nan))).axes[0]

    assert bands(panel) == [] and segments(panel, vertical=True) == []
    assert len(lines(panel)) == len(LADDER)


def test_one_model_with_one_checkpoint_is_a_point_with_a_bar():
    metrics = make({"smollm2-135m": 106_203_456}, steps=(1000,))
    figure = draw(plot_curves(metrics))

    for panel, value in zip(figure.axes, metrics["value"], strict=True):
        assert lines(panel) == [] and bands(panel) == []
        assert points(panel)[:, 1] == pytest.approx([value])
        ((bottom, top),) = [s[:, 1] for s in segments(panel, vertical=True)]
        assert (top + bottom) / 2 == pytest.approx(value)
        assert top - bottom == pytest.approx(2 * 1.959964 * 0.03, abs=1e-6)
    assert {"1.02M", "smollm2-135m (106M)"} <= set(words(figure))


def test_checkpoints_without_tokens_are_left_out():
    one = make({"pretrained": 10**6}, steps=(0,)).assign(checkpoint="main", tokens=pd.NA)
    metrics = pd.concat([make(), one], ignore_index=True).astype({"tokens": "Int64"})
    figure = draw(plot_curves(metrics))

    assert all(np.isfinite(points(panel)).all() for panel in figure.axes)
    assert len(points(figure.axes[0])) == len(LADDER) * 3
    note = "Not on this axis: pretrained (training tokens unknown; set tokens_per_step)."
    (word,) = [word for word in words(figure) if "pretrained" in word]
    assert " ".join(word.split()).endswith(note)


def test_a_task_that_a_model_lacks():
    metrics = make()
    metrics = metrics[(metrics.task != "fact_qa") | (metrics.model == "ladder-d64")]
    first, second = draw(plot_curves(metrics)).axes

    assert (len(lines(first)), len(lines(second))) == (4, 1)
    assert to_hex(lines(second)[0].get_color()) == palette(4)[3]


def test_long_series_keep_all_of_the_line_and_some_points():
    panel = draw(plot_curves(make({"one": 888}, {"memo_trap": 0.5}, range(1, 155)))).axes[0]

    assert len(lines(panel)[0].get_xdata()) == 154
    marked = points(panel)[:, 0]
    assert 8 <= len(marked) <= POINTS_PER_LINE
    assert (marked[0], marked[-1]) == pytest.approx(np.log10([1024, 154 * 1024]))


@pytest.mark.parametrize(
    ("steps", "ticks"),
    [
        ((16, 1024), ["16.4K", "50K", "100K", "200K", "500K", "1.05M"]),
        ((2_000, 300_000_000), ["2.05M", "10M", "100M", "1B", "10B", "307B"]),
        ((100, 300), ["102K", "200K", "307K"]),
    ],
)
def test_ticks_are_the_ends_and_round_numbers_of_tokens(steps, ticks):
    figure = draw(plot_curves(make({"one": 888}, {"memo_trap": 0.5}, steps)))

    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ticks


def test_panels_keep_the_order_of_the_study_and_have_human_titles():
    metrics = make(tasks={"zebra_task": 0.5, "fact_qa": 0.25, "arithmetic": 0.25})
    text = words(draw(plot_curves(metrics)))

    assert [w for w in text if w in {"Zebra task", "Fact QA", "Arithmetic"}] == [
        "Zebra task",
        "Fact QA",
        "Arithmetic",
    ]


@pytest.mark.parametrize("plot", [plot_curves, plot_heat, plot_paper])
def test_without_values_there_is_nothing_to_draw(plot):
    with pytest.raises(FigureError, match=r"nothing to draw: all 32 rows lack a value\. Add"):
        plot(make().assign(value=np.nan), parameters="non_embedding")
    with pytest.raises(FigureError, match=r"nothing to draw: there are no rows\. Add"):
        plot(make().iloc[:0], parameters="non_embedding")


# --- the axis of training ------------------------------------------------------------------


@pytest.mark.parametrize("plot", [plot_curves, plot_paper])
def test_without_tokens_the_axis_is_that_of_steps(plot):
    figure = draw(plot(make().assign(tokens=0), parameters="non_embedding"))
    assert "Training step (log scale; tokens unknown: set tokens_per_step)" in words(figure)
    assert sorted(set(np.round(10 ** offsets(figure.axes[0], lambda _: True)[:, 0]))) == [16, 128, 1024]


@pytest.mark.parametrize("plot", [plot_curves, plot_paper])
def test_without_steps_the_axis_is_the_order_of_the_study(plot):
    named = make(steps=(2, 0, 1)).assign(tokens=0, step=0)
    named["checkpoint"] = named["checkpoint"].map({"step2": "base", "step0": "sft", "step1": "dpo"})
    figure = draw(plot(named, parameters="non_embedding"))
    assert "Checkpoint, in order (no training tokens or steps above 0)" in words(figure)
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["base", "sft", "dpo"]
    assert set(offsets(figure.axes[0], lambda _: True)[:, 0]) == {0, 1, 2}


def test_one_untrained_checkpoint_is_drawn_under_its_name():
    figure = draw(plot_curves(make({"one": 888}, steps=(0,))))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["step0"]


def test_models_that_are_not_on_the_axis_are_named():
    unknown = make({"no-tokens": 10**6, "none-either": 10**7}).assign(tokens=0)
    text = words(draw(plot_curves(pd.concat([make(), unknown]))))
    note = "Not on this axis: no-tokens, none-either (training tokens unknown; set tokens_per_step)."
    assert any(note in " ".join(word.split()) for word in text)
    assert not any("Not on this axis" in word for word in words(draw(plot_curves(make()))))


# --- metrics of other kinds ----------------------------------------------------------------


def mixed() -> pd.DataFrame:
    """Accuracy of two tasks, a loss, a perplexity, log-odds and a metric that nobody registered."""
    loss = {"documents": np.nan}
    others = [
        make(tasks=loss).assign(metric="loss", value=lambda rows: 6 - np.log2(1 + rows["step"]) / 5),
        make(tasks={"text": np.nan}).assign(metric="perplexity", value=lambda rows: 400.0 - rows["step"] / 4),
        make(tasks={"odds": 0.0}).assign(metric="log_odds", value=lambda rows: rows["step"] / 1024),
        make(tasks={"old": np.nan}).assign(metric="f1", value=0.5),
    ]
    return with_properties(pd.concat([make(), *others], ignore_index=True))


PANELS = {
    "Memo trap": "Accuracy (share, higher is better)",
    "Fact QA": "Accuracy (share, higher is better)",
    "Documents": "Loss (nats per token, lower is better)",
    "Text": "Perplexity (lower is better)",
    "Odds": "Log odds (nats)",
    "Old": "F1 (assumed: higher is better)",
}


@pytest.mark.parametrize("plot", [plot_curves, plot_heat, plot_paper])
def test_every_panel_names_its_metric_unit_and_direction(plot):
    figure = draw(plot(mixed(), parameters="non_embedding"))
    strips = {}
    for word in words(figure):
        task, _, label = word.partition("\n")
        if task in PANELS:
            strips[task] = label.replace("\n", " ")
    assert strips.keys() == PANELS.keys()
    assert all(strips[task].startswith(label) for task, label in PANELS.items())
    assert not [word for word in words(figure) if word.startswith("Accuracy")]


@pytest.mark.parametrize("plot", [plot_curves, plot_heat, plot_paper])
def test_one_metric_is_named_once(plot):
    loss = mixed().query("metric == 'loss'")
    text = words(draw(plot(loss, parameters="non_embedding")))
    assert "Documents" in text
    assert [word.splitlines()[0] for word in text if word.startswith("Loss")] == [
        "Loss (nats per token, lower is better)"
    ]
    assert not any("ccuracy" in word for word in text)


def test_each_panel_shows_the_range_of_its_own_values_unless_asked():
    """A change of a few points is not a flat line beside a task that goes from 0 to 1."""
    metrics = make(tasks={"large": 0.1, "small": 0.25})
    metrics["value"] = np.where(metrics["task"] == "large", 0.1 + metrics["step"] / 1200, 0.25)
    metrics["value"] += 0.02 * (metrics["step"] == 1024)
    dropped = pd.DataFrame({"model": ["ladder-d8"], "tokens": [65536]})
    for options, widest in (({}, 0.3), ({"share_y": True}, 2.0)):
        large, small = draw(plot_curves(metrics, dropped=dropped, **options)).axes
        assert np.ptp(small.get_ylim()) < widest
        assert (np.ptp(large.get_ylim()) == pytest.approx(np.ptp(small.get_ylim()))) == bool(options)


def test_panels_of_one_metric_share_their_axis_and_others_do_not():
    memo_trap, fact_qa, documents, text, odds, _ = draw(plot_curves(mixed(), share_y=True)).axes
    assert memo_trap.get_ylim() == pytest.approx(fact_qa.get_ylim())
    assert memo_trap.get_ylim()[1] < 1.2
    assert documents.get_ylim()[0] > 2 and text.get_ylim()[1] > 300
    assert odds.get_ylim()[1] > 0.9


def test_no_checkpoint_is_the_best_of_a_metric_without_direction():
    odds = mixed().query("metric == 'log_odds'")
    assert not any(is_white(c) for c in draw(plot_curves(odds)).axes[0].collections)


# --- heat ----------------------------------------------------------------------------------


def tiles(panel) -> list[tuple[tuple[float, float], str]]:
    """Centre and colour of each tile."""
    found = []
    for c in bands(panel):
        for path, colour in zip(c.get_paths(), c.get_facecolor(), strict=True):
            corners = path.vertices
            centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
            found.append((tuple(centre.round(6).tolist()), to_hex(colour)))
    return found


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_a_tile_per_cell_sizes_downwards_checkpoints_to_the_right():
    figure = draw(plot_heat(make()))

    for panel in figure.axes[:2]:
        assert {centre for centre, _ in tiles(panel)} == {(x, y) for x in range(1, 5) for y in range(1, 5)}
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == LABELS[::-1]  # upwards
    across = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert across == ["step0", "16 (16.4K)", "128 (131K)", "1024 (1.05M)"]


def test_colours_are_centred_on_each_tasks_chance():
    metrics = make({"one": 888}, steps=(1, 2, 3))
    metrics["value"] = metrics["chance"] + metrics["step"].map({1: -0.2, 2: 0.0, 3: 0.2})
    for panel in draw(plot_heat(metrics)).axes[:2]:
        below, at, above = (to_rgb(colour) for _, colour in sorted(tiles(panel)))
        assert below[0] > below[2] + 0.2  # orange
        assert max(at) - min(at) < 0.02  # neither
        assert above[2] > above[0] + 0.2  # blue


def test_values_are_written_in_contrast_to_their_tiles():
    metrics = make({"one": 888}, {"memo_trap": 0.5}, range(11))
    metrics["value"] = metrics["step"] / 10
    panel = draw(plot_heat(metrics)).axes[0]

    colours = dict(tiles(panel))
    written = [text for text in panel.texts if text.get_text()]
    assert [t.get_text() for t in sorted(written, key=lambda text: text.get_position())] == [
        *(".00", ".10", ".20", ".30", ".40", ".50", ".60", ".70", ".80", ".90", "1.00"),
    ]
    for text in written:
        ink, tile = luminance(to_hex(text.get_color())), luminance(colours[text.get_position()])
        assert (max(ink, tile) + 0.05) / (min(ink, tile) + 0.05) >= 4.5


def test_long_series_drop_the_values_and_most_names():
    panel = draw(plot_heat(make({"one": 888}, {"memo_trap": 0.5}, range(154)))).axes[0]

    assert len(tiles(panel)) == 154
    assert not any(text.get_text() for text in panel.texts)
    assert 5 <= len(panel.get_xticklabels()) <= 32


def test_checkpoints_with_unknown_tokens_go_by_their_name_and_come_last():
    one = make({"pretrained": 10**6}, steps=(0,)).assign(checkpoint="main", tokens=pd.NA)
    metrics = pd.concat([one, make()], ignore_index=True).astype({"tokens": "Int64"})
    panel = draw(plot_heat(metrics)).axes[0]

    assert [t.get_text() for t in panel.get_xticklabels()][-1] == "main"
    assert len(tiles(panel)) == 17


def test_checkpoints_with_equal_tokens_have_a_column_each():
    metrics = make({"one": 888}, {"memo_trap": 0.5}, (1, 2)).assign(tokens=1024)

    assert len({centre for centre, _ in tiles(draw(plot_heat(metrics)).axes[0])}) == 2


def test_a_missing_cell_does_not_look_like_chance():
    metrics = make()
    metrics["value"] = metrics["chance"]
    panel = draw(plot_heat(metrics[(metrics.step != 16) | (metrics.model != "ladder-d8")])).axes[0]

    (at_chance,) = {colour for _, colour in tiles(panel)}
    assert len(tiles(panel)) == 15
    assert abs(luminance(to_hex(panel.get_facecolor())) - luminance(at_chance)) > 0.2


def test_without_a_chance_level_colours_are_changes_from_the_first_checkpoint():
    falling = mixed().query("metric == 'loss' and model == 'ladder-d8'")
    figure = draw(plot_heat(falling))
    colours = [to_rgb(colour) for _, colour in sorted(tiles(figure.axes[0]))]
    assert max(colours[0]) - min(colours[0]) < 0.02  # no change
    assert colours[-1][2] > colours[-1][0] + 0.2  # blue: a lower loss is better
    text = words(figure)
    assert "Loss (nats per token, lower is better)\ndifference from the first checkpoint" in text
    assert {"+2.05 (worse)", "−2.05 (better)"} <= set(text)
    assert not any("chance" in word for word in text)


def test_every_metric_has_its_own_scale_of_colours():
    metrics = mixed()
    metrics.loc[metrics.task == "fact_qa", "chance"] = np.nan
    figure = draw(plot_heat(metrics))
    last = {
        word.partition("\n")[0]: word[word.rindex("from ") :].replace("\n", " ")
        for word in words(figure)
        if "±" in word
    }
    assert last == {
        "Memo trap": "from chance: ±0.15",
        "Fact QA": "from the first checkpoint: ±0.15",
        "Documents": "from the first checkpoint: ±2.05",
        "Text": "from the first checkpoint: ±256",
        "Odds": "from chance: ±1",
        "Old": "from the first checkpoint: ±0.05",
    }
    assert {"worse or lower", "better or higher"} <= set(words(figure))


@pytest.mark.parametrize("plot", [plot_curves, plot_heat])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_can_be_drawn(plot, value):
    draw(plot(make().assign(value=value, stderr=0.0, chance=0.5)))


# --- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", [plot_curves, plot_heat])
@pytest.mark.parametrize("suffix", ["pdf", "png"])
def test_equal_metrics_make_equal_bytes(tmp_path, plot, suffix):
    save(plot(make()), tmp_path / f"a.{suffix}")
    with mpl.rc_context({"savefig.dpi": 50, "pdf.compression": 0, "text.antialiased": False}):
        save(plot(make()), tmp_path / f"b.{suffix}")
    save(plot(make().assign(value=0.5)), tmp_path / f"c.{suffix}")

    first, again, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "abc")
    assert first == again
    assert first != other
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{name}.{suffix}" for name in "abc"]
    assert plt.get_fignums() == []


def test_pdf_has_embedded_truetype_fonts_and_no_date(tmp_path):
    save(plot_curves(make()), tmp_path / "figure.pdf")

    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert b"DejaVuSans" in pdf
    assert b"Date" not in pdf


@pytest.mark.parametrize("plot", [plot_curves, plot_heat])
def test_png_is_a_page_wide_at_300_dots_and_not_blank(tmp_path, plot):
    save(plot(make(tasks={"a": 0.5, "b": 0.5, "c": 0.5}, steps=range(9))), tmp_path / "figure.png")

    image = mpl_image.imread(tmp_path / "figure.png")
    assert image.shape[1] == pytest.approx(17 / 2.54 * 300, abs=1)
    inked = (image[..., :3].min(axis=2) < 0.95).mean()
    assert 0.02 < inked < 0.9


def test_a_given_size_is_kept(tmp_path):
    save(plot_curves(make()), tmp_path / "figure.png", width_cm=8.5, height_cm=6)

    height, width = mpl_image.imread(tmp_path / "figure.png").shape[:2]
    assert (width, height) == pytest.approx((8.5 / 2.54 * 300, 6 / 2.54 * 300), abs=1)


def test_nothing_drawn_reaches_over_the_edge(tmp_path):
    """Names, legend and colour bar fit on the page, also for the smallest study."""
    for metrics in (make(), make({"smollm2-135m": 106_203_456}, {"memo_trap": 0.5}, (1,))):
        for plot in (plot_curves, plot_heat):
            save(plot(metrics), tmp_path / "figure.png")
            image = mpl_image.imread(tmp_path / "figure.png")[..., :3]
            edges = [image[:3], image[-3:], image[:, :3], image[:, -3:]]
            assert all((edge == 1).all() for edge in edges)


def test_another_format_is_refused(tmp_path):
    with pytest.raises(FigureError, match=r"'\.svg', allowed: \.pdf, \.png"):
        save(plot_curves(make()), tmp_path / "figure.svg")


def test_figures_grow_with_the_number_of_tasks():
    def height(count: int) -> float:
        tasks = {f"task_{i}": 0.5 for i in range(count)}
        return plot_curves(make(tasks=tasks)).theme.getp("figure_size")[1]

    assert height(3) < height(6) < height(12) < 25 / 2.54


def test_the_package_does_not_load_plotnine_before_a_figure_is_wanted():
    code = "import sys, ebbtide, ebbtide.tables; sys.exit('plotnine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "human"),
    [
        ("memo_trap", "Memo trap"),
        ("fact_qa", "Fact QA"),
        ("quote-repetition", "Quote repetition"),
        ("truthfulqa_mc1", "TruthfulQA MC1"),
        ("accuracy", "Accuracy"),
    ],
)
def test_titles_are_for_people(name, human):
    assert title(name) == human


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (888, "888"), (999.6, "1K"), (16384, "16.4K"), (16000, "16K"), (999_999, "1M")),
        *((1_048_576, "1.05M"), (18_915_328, "18.9M"), (300e9, "300B"), (2e12, "2T"), (15e12, "15T")),
    ],
)
def test_counts_are_compact(number, text):
    assert compact(number) == text


@given(st.integers(1, 10**15 - 1))
def test_a_compact_count_reads_back_to_three_digits(number):
    text = compact(number)
    unit = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1])
    value = float(text[:-1]) * unit if unit else float(text)

    assert value == pytest.approx(number, rel=0.0051)
    assert len(text) <= 5 or number >= 1e15


def test_colours_darken_to_light_without_fading():
    for count in range(1, 13):
        light = [luminance(colour) for colour in palette(count)]
        assert light == sorted(light)
        assert max(light) < 0.55


# --- high-water marks, dropped checkpoints, titles, the form of the paper ---------------------


def test_a_white_dot_marks_the_best_checkpoint_of_each_line():
    metrics = make({"a": 10, "b": 20}, {"t": 0.5})
    metrics["value"] = metrics["step"].map({0: 0.9, 16: 0.3, 128: 0.6, 1024: 0.5}) + 0.01 * (
        metrics.model == "b"
    )
    best = {(round(np.log10(131072), 5), value) for value in (0.6, 0.61)}
    assert best_points(draw(plot_curves(metrics)).axes[0]) == best
    loss = with_properties(metrics.assign(metric="classification_loss", chance=np.nan))
    lowest = {(round(np.log10(16384), 5), value) for value in (0.3, 0.31)}
    assert best_points(draw(plot_curves(loss)).axes[0]) == lowest


def test_of_equal_checkpoints_the_first_is_the_mark():
    flat = make({"a": 10}, {"t": 0.5}).assign(value=0.4)
    assert best_points(draw(plot_curves(flat)).axes[0]) == {(round(np.log10(16384), 5), 0.4)}


def test_dropped_checkpoints_are_crosses_below_all_values():
    metrics = make({"a": 10, "b": 20}, {"t": 0.5, "u": 0.5})
    dropped = pd.DataFrame({"model": ["a", "gone"], "tokens": [65536, 65536]})
    before, after = (draw(plot_curves(metrics, dropped=d)) for d in (None, dropped))
    for one, other in zip(before.axes, after.axes, strict=True):
        new = {tuple(p) for p in np.round(points(other), 6)} - {tuple(p) for p in np.round(points(one), 6)}
        [(x, y)] = new
        assert x == pytest.approx(np.log10(65536), abs=1e-5)
        assert y < points(one)[:, 1].min()


def seeded(*others: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics of two runs of one recipe and other models, and the rows of seed_curves.tsv of the recipe."""
    metrics = make({"run-0": 888, "run-1": 888, **dict.fromkeys(others, 6592)}, {"fact_qa": 0.25})
    values = metrics[metrics["tokens"] > 0].pivot_table("value", "tokens", "model")[["run-0", "run-1"]]
    mean = values.mean(axis=1)
    ends = {"seeds": 0.1, "examples": 0.02}
    seeds = pd.DataFrame(
        {
            **{"recipe": "base 888", "task": "fact_qa", "metric": "accuracy", "tokens": values.index},
            **{"runs": 2, "models": "run-0, run-1", "n": 200, "value": mean.to_numpy()},
            **{f"low_{name}": (mean - by).to_numpy() for name, by in ends.items()},
            **{f"high_{name}": (mean + by).to_numpy() for name, by in ends.items()},
        }
    )
    return metrics, seeds


def test_runs_that_differ_by_seed_share_a_line_between_two_intervals():
    metrics, seeds = seeded("large")
    dropped = pd.DataFrame({"model": ["run-1"], "checkpoint": ["step64"], "tokens": [64 * 1024]})
    figure = draw(plot_curves(metrics, seeds=seeds, dropped=dropped))
    panel = figure.axes[0]

    assert [word for word in words(figure) if word.startswith(("base", "large", "run-"))] == [
        "base 888, 2 runs (888)",
        "large (6.59K)",
    ]
    assert any("Dotted: over other seeds" in word.replace("\n", " ") for word in words(figure))
    dotted = [line.get_ydata() for line in lines(panel) if line.get_linestyle() == ":"]
    np.testing.assert_allclose(sorted(dotted, key=min), seeds[["low_seeds", "high_seeds"]].T)
    solid = [line for line in lines(panel) if line.get_linestyle() == "-"]
    mean, _ = sorted((line for line in solid if line.get_linewidth() > 1), key=lambda of: max(of.get_ydata()))
    np.testing.assert_allclose(mean.get_ydata(), seeds["value"])
    thin = [line for line in solid if line.get_linewidth() < 1]
    assert len(thin) == 2 and {line.get_color()[:3] for line in thin} == {mean.get_color()[:3]}
    inner = min(bands(panel), key=lambda band: np.ptp(band.get_paths()[0].vertices[:, 1]))
    assert inner.get_paths()[0].vertices[:, 1].min() == pytest.approx(seeds["low_examples"].min())
    crosses = [c for c in panel.collections if isinstance(c, PathCollection) and len(c.get_offsets()) == 1]
    assert crosses  # the dropped checkpoint of a run is drawn with its recipe


def test_single_points_of_recipes_have_bars_and_other_studies_no_seeds():
    metrics, seeds = seeded()
    one = seeds["tokens"] == seeds["tokens"].max()
    panel = draw(plot_curves(metrics[metrics["step"].isin([0, 1024])], seeds=seeds[one])).axes[0]
    heights = sorted(abs(end[1] - start[1]) for start, end in segments(panel, vertical=True))
    assert heights == pytest.approx([0.04, 0.2])
    for none in (None, seeds.iloc[:0]):
        assert len(lines(draw(plot_curves(metrics, seeds=none)).axes[0])) == 2


def test_titles_name_panels_as_they_are():
    metrics = pd.concat([make(), make(tasks={"qa": 0.5}).assign(metric="mc1")])
    chosen = {"memo_trap": ["accuracy"], "fact_qa": ["accuracy"], "qa": ["mc1"]}
    looked_at = abilities(chosen, {"qa": "Q-and-A_1", "fact_qa": "Facts"})
    rows = ability_rows(metrics, looked_at)
    for plot in (plot_curves, plot_heat, plot_paper):
        more = {"parameters": "non_embedding"} if plot is plot_paper else {}
        text = words(draw(plot(rows, titles=ability_titles(looked_at), **more)))
        first = [word.partition("\n")[0] for word in text]
        found = [word for word in first if word in ("Q-and-A_1", "Facts", "Memo trap")]
        assert found == ["Q-and-A_1", "Facts", "Memo trap"]


def test_the_form_of_the_paper():
    metrics = make({f"m{i}": 10 ** (9 - i) for i in range(8)}, {f"t{i}": 0.5 for i in range(5)})
    metrics["value"] += metrics["task"].str[1].astype(int)
    figure = draw(plot_paper(metrics, parameters="non_embedding"))
    assert figure.get_size_inches() == pytest.approx((10, 6))
    assert len({panel.get_ylim() for panel in figure.axes}) == 5  # own y axes
    assert len({round(panel.get_position().x0, 3) for panel in figure.axes}) == 4
    drawn = [to_hex(line.get_color()) for line in lines(figure.axes[0])]
    assert len(set(drawn)) == 8
    assert [word for word in words(figure) if word in set(metrics["model"])] == [
        f"m{i}" for i in range(7, -1, -1)
    ]


def test_titles_and_names_are_drawn_as_texts(tmp_path) -> None:
    """Mathematical notation of matplotlib is not interpreted, which fails for `$\\frac$`."""
    titles = {"memo_trap": r"$\frac$ and $x$", "fact_qa": "<b>&amp; \\n</b>"}
    table = make(models={r"m$\bad$": 888, "n": 6592})
    save(plot_curves(table, titles=titles), tmp_path / "hostile.pdf")
    assert (tmp_path / "hostile.pdf").read_bytes().startswith(b"%PDF")


def test_ticks_between_powers_of_ten() -> None:
    assert powers_of_ten([1e12, 3e12, 2.5e-3]) == ["10¹²", "3·10¹²", "2.5·10⁻³"]
