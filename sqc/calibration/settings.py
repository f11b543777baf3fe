"""How ranges are chosen, as one thing: settings, and the rules that say which tensor gets which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, cast, get_args

from sqc.calibration.qparams import Grid, check_bits, choose_qparams
from sqc.calibration.ranges import DEFAULT_SEARCH, MOVING_AVERAGE, OUTPUT_ERROR, did_you_mean, find_search
from sqc.calibration.weights import check_weight_search
from sqc.errors import CalibrationError

Sharing: TypeAlias = Literal["channel", "group", "tensor"]
"""What shares a scale: an output channel, the channels of a group of a convolution, or all weights of a layer."""


@dataclass(frozen=True, slots=True)
class WeightSettings:
    """How the scales of a layer's weights are chosen (see :func:`choose_weight_scales`); levels are symmetric.

    ``bits`` is 2 to 8. ``power_of_two`` rounds scales up to powers of two.
    """

    search: str = "minmax"
    bits: int = 8
    sharing: Sharing = "channel"
    power_of_two: bool = False

    def __post_init__(self) -> None:
        check_weight_search(self.search)
        check_bits(self.bits)
        if self.sharing not in get_args(Sharing):
            raise CalibrationError(f"weights share scales by channel, group or tensor, not by '{self.sharing}'")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the range of an activation is chosen, and the scales of the weights of the layer that computes it.

    ``search`` names a search (:func:`search_names`), or is ``output`` or ``moving-average``. ``symmetric`` puts zero
    at the middle level, ``power_of_two`` rounds the scale up to a power of two, ``bits`` is 2 to 8. Raises
    CalibrationError for what is not so.
    """

    search: str = DEFAULT_SEARCH
    bits: int = 8
    symmetric: bool = False
    power_of_two: bool = False
    weights: WeightSettings = WeightSettings()

    def __post_init__(self) -> None:
        if self.search not in (OUTPUT_ERROR, MOVING_AVERAGE):
            find_search(self.search)
        check_bits(self.bits)

    @property
    def grid(self) -> Grid:
        """The levels of the activation."""
        return Grid(self.bits, self.symmetric, self.power_of_two)

    def qparams(self, low: float, high: float) -> tuple[float, int]:
        """Scale and zero point of an activation with this range, see :func:`choose_qparams`."""
        return choose_qparams(low, high, "uint8", self.symmetric, self.bits, self.power_of_two)

    @staticmethod
    def parse(text: str) -> Settings:
        """Settings from words with commas between: a search's name, and any of

        symmetric, power-of-two, bits:7, weights:l2, weight-bits:7, weight-sharing:group, weight-power-of-two.

        Raises CalibrationError for any other word.
        """
        settings = Settings()
        for word in filter(None, (word.strip() for word in text.split(","))):
            name, _, value = word.partition(":")
            if word in _FLAGS or (name in _VALUES and value):
                settings = _FLAGS[word](settings) if word in _FLAGS else _VALUES[name](settings, value)
            elif name in _VALUES or name in _FLAGS:
                raise CalibrationError(f"'{word}': write {name}{':VALUE' if name in _VALUES else ''}")
            else:
                settings = replace(settings, search=word)
        return settings


def _weights(settings: Settings, **changes: object) -> Settings:
    return replace(settings, weights=replace(settings.weights, **changes))  # type: ignore[arg-type]


def _bits(text: str) -> int:
    if not text.isdecimal():
        raise CalibrationError(f"'{text}' is no number of bits")
    return int(text)


_FLAGS: dict[str, Callable[[Settings], Settings]] = {
    "symmetric": lambda settings: replace(settings, symmetric=True),
    "power-of-two": lambda settings: replace(settings, power_of_two=True),
    "weight-power-of-two": lambda settings: _weights(settings, power_of_two=True),
}
_VALUES: dict[str, Callable[[Settings, str], Settings]] = {
    "bits": lambda settings, value: replace(settings, bits=_bits(value)),
    "weights": lambda settings, value: _weights(settings, search=value),
    "weight-bits": lambda settings, value: _weights(settings, bits=_bits(value)),
    "weight-sharing": lambda settings, value: _weights(settings, sharing=cast(Sharing, value)),
}


@dataclass(frozen=True, slots=True, init=False)
class Ranges:
    """Which settings each tensor gets: those of the last rule that matches it, else the default.

    A rule is a pattern and settings; both settings and the default may be given as text (:meth:`Settings.parse`)::

        Ranges("l2", [("conv2d", "kl"), ("/head/*", "minmax,weights:l2")])

    A pattern, with ``*`` and ``?`` as in file names, matches the kind of the op that computes a tensor (``input`` of an
    input of the model), the name of its node, or the tensor's own name. Where a clamp or a function is computed before
    the rounding, the ops before it count as well: ``conv2d`` matches what a ReLU behind a convolution yields. Weights
    go with the op that reads them.
    """

    default: Settings
    rules: tuple[tuple[str, Settings], ...]

    def __init__(self, default: Settings | str = DEFAULT_SEARCH, rules: Iterable[tuple[str, Settings | str]] = ()):
        object.__setattr__(self, "default", _settings(default))
        object.__setattr__(self, "rules", tuple((pattern, _settings(value)) for pattern, value in rules))

    @staticmethod
    def parse(texts: Iterable[str]) -> Ranges:
        """Ranges from texts: ``SETTINGS`` alone is the default (the last one counts), ``PATTERN=SETTINGS`` a rule."""
        default, rules = DEFAULT_SEARCH, []
        for text in texts:
            pattern, separator, settings = text.rpartition("=")
            if separator:
                rules.append((pattern, settings))
            else:
                default = text
        return Ranges(default, rules)

    @staticmethod
    def of(ranges: RangesLike) -> Ranges:
        """``ranges`` as they are, or as the default for all tensors."""
        return ranges if isinstance(ranges, Ranges) else Ranges(ranges)

    def settings(self, names: Collection[str]) -> Settings:
        """The settings of what is known by ``names``: kinds of ops, nodes, tensors."""
        for pattern, settings in reversed(self.rules):
            if matches(pattern, names):
                return settings
        return self.default


RangesLike: TypeAlias = Ranges | Settings | str
"""Ranges, or settings for all tensors; as text, see :meth:`Settings.parse`."""


def matches(pattern: str, names: Collection[str]) -> bool:
    """Whether ``pattern`` is one of ``names``, or matches one as a file name."""
    return pattern in names or any(fnmatchcase(name, pattern) for name in names)


def check_rules(ranges: Ranges, names: Collection[str], kinds: Collection[str]) -> None:
    """Raises CalibrationError for a pattern that is no kind of op and matches none of ``names``: it is mistyped."""
    for pattern, _ in ranges.rules:
        if not matches(pattern, kinds) and not matches(pattern, names):
            near = did_you_mean(pattern, (*kinds, *names))
            raise CalibrationError(f"the rule for '{pattern}' matches no kind of op, node or tensor of the model{near}")


def _settings(value: Settings | str) -> Settings:
    return Settings.parse(value) if isinstance(value, str) else value
