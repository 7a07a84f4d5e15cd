"""Pictures and the tables that say the same."""

from __future__ import annotations

import json

from engine.web.console.charts import Chart, Series, Step, waterfall


def drawn(*, good_up: bool) -> Chart:
    return waterfall(
        "Risk",
        "what drives it",
        begins=("anybody", -1.0),
        steps=[Step("monthly", 0.5, "typical: yearly"), Step("long here", -0.75)],
        ends="this customer",
        head=["what", "change", "reached", "compared"],
        good_up=good_up,
    )


def test_waterfall_leads_from_anybody_to_the_customer() -> None:
    """Each bar begins where the one before ended, and the last one is the sum."""
    (series,) = drawn(good_up=False).series

    assert series.values == [(0.0, -1.0), (-1.0, -0.5), (-0.5, -1.25), (0.0, -1.25)]


def test_colours_say_what_one_would_like() -> None:
    """A risk that rises is a warning, a chance that rises is none."""
    risk, chance = drawn(good_up=False), drawn(good_up=True)

    assert risk.series[0].tones == ["quiet", "warn", "good", "accent"]
    assert chance.series[0].tones == ["quiet", "good", "warn", "accent"]


def test_table_has_what_the_picture_has() -> None:
    """Every step with its change and what was reached."""
    chart = drawn(good_up=False)

    assert chart.rows[1] == ("monthly", "+0.50", "-0.50", "typical: yearly")
    assert chart.rows[-1][2] == "-1.25"
    assert len(chart.rows) == len(chart.labels)


def test_script_is_told_in_json() -> None:
    """Names that customers or authors chose stay text, whatever they hold."""
    chart = Chart("bar", "t", "w", ["</script>"], [Series("a", [1, None])], ["h"], [("r",)])

    said = json.loads(chart.said)

    assert said["labels"] == ["</script>"]
    assert said["series"][0]["values"] == [1, None]
