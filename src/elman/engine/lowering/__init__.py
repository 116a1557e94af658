"""A traced graph becomes a Program: the rewrites, and the section that each node goes to."""
