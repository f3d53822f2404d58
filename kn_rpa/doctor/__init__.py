"""Looks at a deployment part by part, and says what is wrong and the command that mends it."""
