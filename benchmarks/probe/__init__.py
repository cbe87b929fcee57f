"""Is the verdict of `agentrl probe` right? On five tasks whose answer is known, and along the lines between them."""
