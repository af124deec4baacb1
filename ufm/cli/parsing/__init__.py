"""The input of the commands: flags, configuration files, problems, signals."""
