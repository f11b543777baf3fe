"""What is fitted to the inputs that a calibration keeps: channels evened out, biases corrected, weights rounded."""

from sqc.refine.channels import channel_extremes
from sqc.refine.inputs import channel_levels
from sqc.refine.layers import refine_layers
from sqc.refine.smoothing import smoothing

__all__ = ["channel_extremes", "channel_levels", "refine_layers", "smoothing"]
