"""One file a command; each holds a function of the command's name."""
