"""The operator's side: the command line, the supervisor, replay."""
