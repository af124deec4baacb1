"""What the commands read: flags, configuration files, problems, signals."""
