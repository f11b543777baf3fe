"""Settings as text, and which of them a tensor gets."""

from __future__ import annotations

import pytest

from sqc.calibration import Ranges, Settings, WeightSettings
from sqc.calibration.settings import check_rules
from sqc.errors import CalibrationError


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", Settings()),
        ("kl", Settings("kl")),
        ("p99.9, symmetric", Settings("p99.9", symmetric=True)),
        ("bits:4,power-of-two", Settings(bits=4, power_of_two=True)),
        ("percentile:99.99,weights:l2", Settings("percentile:99.99", weights=WeightSettings("l2"))),
        (
            "output,weight-bits:7,weight-sharing:group,weight-power-of-two",
            Settings("output", weights=WeightSettings(bits=7, sharing="group", power_of_two=True)),
        ),
    ],
)
def test_settings_as_text(text: str, settings: Settings) -> None:
    assert Settings.parse(text) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("l3", "no range search 'l3'"),
        ("bits:9", "9 bits; choose 2 to 8"),
        ("bits:many", "'many' is no number of bits"),
        ("bits", "write bits:VALUE"),
        ("symmetric:yes", "'symmetric:yes': write symmetric"),
        ("weights:kl", "no search 'kl' for weights"),
        ("weights:p5", "'5' is no percentage to keep"),
        ("weight-bits:1", "1 bits; choose 2 to 8"),
        ("weight-sharing:row", "by channel, group or tensor, not by 'row'"),
        ("p12", "'12' is no percentage to keep"),
    ],
)
def test_mistakes_in_settings(text: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Settings.parse(text)


def test_the_last_rule_that_matches_counts() -> None:
    ranges = Ranges("l2", [("conv2d", "kl"), ("/head/*", "minmax"), ("/head/last", Settings("p99"))])
    assert ranges.settings({"relu", "x"}).search == "l2"
    assert ranges.settings({"conv2d", "/body/conv"}).search == "kl"
    assert ranges.settings({"conv2d", "/head/conv"}).search == "minmax"
    assert ranges.settings({"conv2d", "/head/last"}).search == "p99"


def test_rules_as_text() -> None:
    expected = Ranges("l1", [("conv2d", "kl"), ("a=b", "minmax")])
    assert Ranges.parse(["l2", "conv2d=kl", "a=b=minmax", "l1"]) == expected
    assert Ranges.of("l1") == Ranges.parse(["l1"]) == Ranges.of(Settings("l1")) == Ranges.of(Ranges("l1"))
    assert Ranges.parse([]) == Ranges()


def test_names_with_brackets_match_themselves() -> None:
    assert Ranges("l2", [("layer[0]", "kl")]).settings({"layer[0]"}).search == "kl"


def test_rules_that_match_nothing_are_mistyped() -> None:
    names, kinds = ("/head/conv", "relu_1"), ("conv2d", "add")
    check_rules(Ranges("l2", [("add", "kl"), ("/head/*", "kl"), ("relu_?", "kl")]), names, kinds)
    with pytest.raises(CalibrationError, match=r"rule for '/heat/conv' matches no kind.*did you mean /head/conv"):
        check_rules(Ranges("l2", [("/heat/conv", "kl")]), names, kinds)
