"""What every command has: settings from conf/ and the command line, help, and signals that end it in order."""
