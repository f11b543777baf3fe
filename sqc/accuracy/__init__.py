"""What quantizing a network costs in accuracy: compared with float, layer by layer, and kept within a bound."""
