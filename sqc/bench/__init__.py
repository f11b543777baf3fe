"""Timing beside other engines, and accuracy beside the float model. The engines need ``pip install 'sqc[bench]'``."""
