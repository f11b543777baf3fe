"""Accuracy beside the float model."""
