"""One file per notation that a network can arrive in; each reads it into the graph of `thalweg.network.graph`."""
