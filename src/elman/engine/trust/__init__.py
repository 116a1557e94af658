"""When a trace is believed, and for which calls it stands."""
