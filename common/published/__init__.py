"""What others have published: scores and curves of their agents, and where they come from."""
