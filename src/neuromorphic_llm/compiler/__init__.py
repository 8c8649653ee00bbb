"""The compiler: typed graph in, chip program out."""
