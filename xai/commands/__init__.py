"""Commands of the terminal: one file a command. PyTorch is imported only when a command runs."""
