"""A step becomes a graph of itself and of its gradient: recorded at two batch sizes, in operations of the table."""
