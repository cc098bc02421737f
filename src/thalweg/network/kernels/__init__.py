"""What the kernels of a network's first layer, or of anyone's filter, answer to."""
